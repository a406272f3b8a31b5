package main

import (
	"context"
	"fmt"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	snapshotv1 "github.com/kubernetes-csi/external-snapshotter/client/v8/apis/volumesnapshot/v1"
	snapshots "github.com/kubernetes-csi/external-snapshotter/client/v8/clientset/versioned"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/sig-storage-lib-external-provisioner/v13/controller"
)

// faultAnnotation on a claim holds a fault, as the switches for other calls do: the name of a volume that is to be made
// cannot be known beforehand.
const faultAnnotation = driverName + "/create-fault"

// fileSystemParameter is the name that StorageClasses have for it with every CSI driver.
const fileSystemParameter = "csi.storage.k8s.io/fstype"

// provisioner makes volumes for claims and PersistentVolumes of them, and deletes what was released.
type provisioner struct {
	driver    csi.ControllerClient
	snapshots snapshots.Interface
}

// provision starts the loop and returns.
func provision(ctx context.Context, kubeconfig, socket string) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	config.QPS, config.Burst = 50, 100
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	snapshotClient, err := snapshots.NewForConfig(config)
	if err != nil {
		return err
	}
	connection, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	loop := controller.NewProvisionController(
		ctx, client, driverName,
		&provisioner{driver: csi.NewControllerClient(connection), snapshots: snapshotClient},
		controller.LeaderElection(false),
		controller.AddFinalizer(true),
		controller.FailedProvisionThreshold(0),
		controller.FailedDeleteThreshold(0),
		controller.RateLimiter(
			workqueue.NewTypedItemExponentialFailureRateLimiter[string](200*time.Millisecond, 5*time.Second),
		),
	)
	go loop.Run(ctx)
	return nil
}

func (p *provisioner) Provision(
	ctx context.Context, options controller.ProvisionOptions,
) (*v1.PersistentVolume, controller.ProvisioningState, error) {
	claim := options.PVC
	if claim.Spec.Selector != nil {
		return nil, controller.ProvisioningFinished, fmt.Errorf("a selector is not supported")
	}
	source, err := p.source(ctx, claim)
	if err != nil {
		return nil, controller.ProvisioningNoChange, err
	}
	if text, found := claim.Annotations[faultAnnotation]; found {
		if err := applyText(ctx, text); err != nil {
			return nil, controller.ProvisioningFinished, err
		}
	}
	asked := claim.Spec.Resources.Requests[v1.ResourceStorage]
	limit := claim.Spec.Resources.Limits[v1.ResourceStorage]
	answer, err := p.driver.CreateVolume(ctx, &csi.CreateVolumeRequest{
		Name:                options.PVName,
		CapacityRange:       &csi.CapacityRange{RequiredBytes: asked.Value(), LimitBytes: limit.Value()},
		VolumeCapabilities:  capabilities(claim, options.StorageClass.Parameters[fileSystemParameter]),
		VolumeContentSource: source,
	})
	if err != nil {
		return nil, stateAfter(err), err
	}
	return persistentVolume(options, answer.GetVolume()), controller.ProvisioningFinished, nil
}

func (p *provisioner) Delete(ctx context.Context, found *v1.PersistentVolume) error {
	_, err := p.driver.DeleteVolume(ctx, &csi.DeleteVolumeRequest{VolumeId: found.Spec.CSI.VolumeHandle})
	return err
}

// source is the snapshot that the claim is to be filled from; nil for an empty volume.
func (p *provisioner) source(ctx context.Context, claim *v1.PersistentVolumeClaim) (*csi.VolumeContentSource, error) {
	from := claim.Spec.DataSource
	if from == nil {
		return nil, nil
	}
	if from.Kind != "VolumeSnapshot" || from.APIGroup == nil || *from.APIGroup != snapshotv1.GroupName {
		return nil, fmt.Errorf("the data source %s %s is not supported", from.Kind, from.Name)
	}
	api := p.snapshots.SnapshotV1()
	found, err := api.VolumeSnapshots(claim.Namespace).Get(ctx, from.Name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	if found.Status == nil || found.Status.ReadyToUse == nil || !*found.Status.ReadyToUse ||
		found.Status.BoundVolumeSnapshotContentName == nil {
		return nil, fmt.Errorf("snapshot %s is not ready to use", from.Name)
	}
	name := *found.Status.BoundVolumeSnapshotContentName
	content, err := api.VolumeSnapshotContents().Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	reference := content.Spec.VolumeSnapshotRef
	if content.Spec.Driver != driverName || reference.UID != found.UID {
		return nil, fmt.Errorf("snapshot %s is not of this driver, or its content belongs to another", from.Name)
	}
	if content.Status == nil || content.Status.SnapshotHandle == nil {
		return nil, fmt.Errorf("snapshot content %s has no handle yet", name)
	}
	return &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Snapshot{
		Snapshot: &csi.VolumeContentSource_SnapshotSource{SnapshotId: *content.Status.SnapshotHandle},
	}}, nil
}

func persistentVolume(options controller.ProvisionOptions, made *csi.Volume) *v1.PersistentVolume {
	claim := options.PVC
	return &v1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: options.PVName},
		Spec: v1.PersistentVolumeSpec{
			AccessModes:                   claim.Spec.AccessModes,
			Capacity:                      v1.ResourceList{v1.ResourceStorage: *resource.NewQuantity(made.GetCapacityBytes(), resource.BinarySI)},
			MountOptions:                  options.StorageClass.MountOptions,
			PersistentVolumeReclaimPolicy: *options.StorageClass.ReclaimPolicy,
			VolumeMode:                    claim.Spec.VolumeMode,
			PersistentVolumeSource: v1.PersistentVolumeSource{CSI: &v1.CSIPersistentVolumeSource{
				Driver: driverName, VolumeHandle: made.GetVolumeId(), FSType: made.GetVolumeContext()[fileSystemKey],
			}},
		},
	}
}

func capabilities(claim *v1.PersistentVolumeClaim, fileSystem string) []*csi.VolumeCapability {
	modes := map[v1.PersistentVolumeAccessMode]csi.VolumeCapability_AccessMode_Mode{
		v1.ReadWriteOnce:    csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER,
		v1.ReadWriteOncePod: csi.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER,
		v1.ReadOnlyMany:     csi.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY,
		v1.ReadWriteMany:    csi.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER,
	}
	var found []*csi.VolumeCapability
	for _, mode := range claim.Spec.AccessModes {
		one := &csi.VolumeCapability{AccessMode: &csi.VolumeCapability_AccessMode{Mode: modes[mode]}}
		if claim.Spec.VolumeMode != nil && *claim.Spec.VolumeMode == v1.PersistentVolumeBlock {
			one.AccessType = &csi.VolumeCapability_Block{Block: &csi.VolumeCapability_BlockVolume{}}
		} else {
			mount := &csi.VolumeCapability_MountVolume{FsType: fileSystem}
			one.AccessType = &csi.VolumeCapability_Mount{Mount: mount}
		}
		found = append(found, one)
	}
	return found
}

// stateAfter: an answer that never came may still be worked on.
func stateAfter(err error) controller.ProvisioningState {
	switch status.Code(err) {
	case codes.Canceled, codes.DeadlineExceeded, codes.Unavailable:
		return controller.ProvisioningInBackground
	}
	return controller.ProvisioningFinished
}
