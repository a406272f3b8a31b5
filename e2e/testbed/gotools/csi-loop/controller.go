package main

import (
	"context"
	"errors"
	"sort"
	"strconv"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"
)

const (
	minimumBytes = 16 << 20 // below that file systems have hardly room for their own structures
	maximumBytes = 1 << 40
	blockBytes   = 4096
	// fileSystemKey names the file system in what is told of a volume.
	fileSystemKey = "fileSystem"
)

type controllerService struct {
	csi.UnimplementedControllerServer
	files *store
}

func (*controllerService) ControllerGetCapabilities(
	context.Context, *csi.ControllerGetCapabilitiesRequest,
) (*csi.ControllerGetCapabilitiesResponse, error) {
	var capabilities []*csi.ControllerServiceCapability
	for _, kind := range []csi.ControllerServiceCapability_RPC_Type{
		csi.ControllerServiceCapability_RPC_CREATE_DELETE_VOLUME,
		csi.ControllerServiceCapability_RPC_PUBLISH_UNPUBLISH_VOLUME,
		csi.ControllerServiceCapability_RPC_EXPAND_VOLUME,
		csi.ControllerServiceCapability_RPC_CREATE_DELETE_SNAPSHOT,
		csi.ControllerServiceCapability_RPC_LIST_SNAPSHOTS,
	} {
		capabilities = append(capabilities, &csi.ControllerServiceCapability{
			Type: &csi.ControllerServiceCapability_Rpc{Rpc: &csi.ControllerServiceCapability_RPC{Type: kind}},
		})
	}
	return &csi.ControllerGetCapabilitiesResponse{Capabilities: capabilities}, nil
}

func (c *controllerService) CreateVolume(
	_ context.Context, request *csi.CreateVolumeRequest,
) (*csi.CreateVolumeResponse, error) {
	if err := supported(request.GetVolumeCapabilities()); err != nil {
		return nil, err
	}
	bytes, err := wantedBytes(request.GetCapacityRange())
	if err != nil {
		return nil, err
	}
	source := request.GetVolumeContentSource().GetSnapshot().GetSnapshotId()
	if request.GetVolumeContentSource() != nil && source == "" {
		return nil, status.Error(codes.InvalidArgument, "only a snapshot can be the source of a volume")
	}

	kind := request.GetVolumeCapabilities()[0].GetMount().GetFsType()
	if kind == "" {
		if kind, err = defaultFileSystem(); err != nil {
			return nil, failure(err)
		}
	}

	c.files.Lock()
	defer c.files.Unlock()
	found, err := c.files.volume(request.GetName())
	if errors.Is(err, errNotFound) {
		found, err = c.create(volume{ID: request.GetName(), FileSystem: kind, Bytes: bytes, From: source})
	}
	if err != nil {
		return nil, failure(err)
	}
	limit := request.GetCapacityRange().GetLimitBytes()
	if found.From != source || found.Bytes < bytes || (limit > 0 && found.Bytes > limit) {
		return nil, status.Errorf(codes.AlreadyExists, "volume %s exists with another size or source", found.ID)
	}
	return &csi.CreateVolumeResponse{Volume: &csi.Volume{
		VolumeId: found.ID, CapacityBytes: found.Bytes, ContentSource: request.GetVolumeContentSource(),
		VolumeContext: map[string]string{fileSystemKey: found.FileSystem},
	}}, nil
}

func (c *controllerService) create(wanted volume) (volume, error) {
	if wanted.From == "" {
		if err := c.files.format(wanted); err != nil {
			return wanted, err
		}
		wanted.Filled = wanted.Bytes
		return wanted, c.files.save(wanted)
	}
	from, err := c.files.snapshot(wanted.From)
	if err != nil {
		return wanted, err
	}
	if wanted.Bytes < from.Bytes {
		return wanted, status.Errorf(codes.OutOfRange, "snapshot %s needs %d bytes", from.ID, from.Bytes)
	}
	wanted.FileSystem, wanted.Filled = from.FileSystem, from.Filled
	if err := copyImage(c.files.snapshotImage(from.ID), c.files.image(wanted.ID)); err != nil {
		return wanted, err
	}
	if err := grow(c.files.image(wanted.ID), wanted.Bytes); err != nil {
		return wanted, err
	}
	return wanted, c.files.save(wanted)
}

func (c *controllerService) DeleteVolume(
	_ context.Context, request *csi.DeleteVolumeRequest,
) (*csi.DeleteVolumeResponse, error) {
	c.files.Lock()
	defer c.files.Unlock()
	found, err := c.files.volume(request.GetVolumeId())
	if errors.Is(err, errNotFound) {
		return &csi.DeleteVolumeResponse{}, nil
	}
	if err != nil {
		return nil, failure(err)
	}
	if found.Node != "" || found.Staged != "" {
		return nil, status.Errorf(codes.FailedPrecondition, "volume %s is attached to node %s", found.ID, found.Node)
	}
	return &csi.DeleteVolumeResponse{}, failure(remove(c.files.record(found.ID), c.files.image(found.ID)))
}

func (c *controllerService) ControllerPublishVolume(
	_ context.Context, request *csi.ControllerPublishVolumeRequest,
) (*csi.ControllerPublishVolumeResponse, error) {
	if err := supported([]*csi.VolumeCapability{request.GetVolumeCapability()}); err != nil {
		return nil, err
	}
	c.files.Lock()
	defer c.files.Unlock()
	found, err := c.files.volume(request.GetVolumeId())
	if err != nil {
		return nil, failure(err)
	}
	if found.Node != "" && found.Node != request.GetNodeId() {
		return nil, status.Errorf(codes.FailedPrecondition, "volume %s is attached to node %s", found.ID, found.Node)
	}
	found.Node = request.GetNodeId()
	return &csi.ControllerPublishVolumeResponse{}, failure(c.files.save(found))
}

func (c *controllerService) ControllerUnpublishVolume(
	_ context.Context, request *csi.ControllerUnpublishVolumeRequest,
) (*csi.ControllerUnpublishVolumeResponse, error) {
	c.files.Lock()
	defer c.files.Unlock()
	found, err := c.files.volume(request.GetVolumeId())
	if errors.Is(err, errNotFound) {
		return &csi.ControllerUnpublishVolumeResponse{}, nil
	}
	if err != nil {
		return nil, failure(err)
	}
	if found.Staged != "" {
		return nil, status.Errorf(codes.FailedPrecondition, "volume %s is mounted on node %s", found.ID, found.Node)
	}
	found.Node = ""
	return &csi.ControllerUnpublishVolumeResponse{}, failure(c.files.save(found))
}

func (c *controllerService) ControllerExpandVolume(
	_ context.Context, request *csi.ControllerExpandVolumeRequest,
) (*csi.ControllerExpandVolumeResponse, error) {
	bytes, err := wantedBytes(request.GetCapacityRange())
	if err != nil {
		return nil, err
	}
	c.files.Lock()
	defer c.files.Unlock()
	found, err := c.files.volume(request.GetVolumeId())
	if err != nil {
		return nil, failure(err)
	}
	if bytes > found.Bytes {
		if err := grow(c.files.image(found.ID), bytes); err != nil {
			return nil, failure(err)
		}
		found.Bytes = bytes
		if err := c.files.save(found); err != nil {
			return nil, failure(err)
		}
	}
	return &csi.ControllerExpandVolumeResponse{CapacityBytes: found.Bytes, NodeExpansionRequired: true}, nil
}

func (c *controllerService) ValidateVolumeCapabilities(
	_ context.Context, request *csi.ValidateVolumeCapabilitiesRequest,
) (*csi.ValidateVolumeCapabilitiesResponse, error) {
	if _, err := c.files.volume(request.GetVolumeId()); err != nil {
		return nil, failure(err)
	}
	if err := supported(request.GetVolumeCapabilities()); err != nil {
		return &csi.ValidateVolumeCapabilitiesResponse{Message: err.Error()}, nil
	}
	confirmed := &csi.ValidateVolumeCapabilitiesResponse_Confirmed{VolumeCapabilities: request.GetVolumeCapabilities()}
	return &csi.ValidateVolumeCapabilitiesResponse{Confirmed: confirmed}, nil
}

func (c *controllerService) CreateSnapshot(
	_ context.Context, request *csi.CreateSnapshotRequest,
) (*csi.CreateSnapshotResponse, error) {
	c.files.Lock()
	defer c.files.Unlock()
	made, err := c.files.snapshot(request.GetName())
	if errors.Is(err, errNotFound) {
		made, err = c.takeSnapshot(request.GetName(), request.GetSourceVolumeId())
	}
	if err != nil {
		return nil, failure(err)
	}
	if made.Source != request.GetSourceVolumeId() {
		return nil, status.Errorf(codes.AlreadyExists, "snapshot %s is of volume %s", made.ID, made.Source)
	}
	return &csi.CreateSnapshotResponse{Snapshot: described(made)}, nil
}

// takeSnapshot stops a mounted file system while its image is copied, so that the copy is of one moment.
func (c *controllerService) takeSnapshot(name, source string) (snapshot, error) {
	from, err := c.files.volume(source)
	if err != nil {
		return snapshot{}, err
	}
	made := snapshot{
		ID: name, Source: source, FileSystem: from.FileSystem, Bytes: from.Bytes, Filled: from.Filled,
		Made: time.Now().UTC(),
	}
	if err := checked(name); err != nil {
		return made, err
	}
	copied := func() error { return copyImage(c.files.image(source), c.files.snapshotImage(name)) }
	if from.Staged != "" {
		err = frozen(from.Staged, copied)
	} else {
		err = copied()
	}
	if err != nil {
		return made, err
	}
	return made, c.files.saveSnapshot(made)
}

func (c *controllerService) DeleteSnapshot(
	_ context.Context, request *csi.DeleteSnapshotRequest,
) (*csi.DeleteSnapshotResponse, error) {
	c.files.Lock()
	defer c.files.Unlock()
	id := request.GetSnapshotId()
	if err := checked(id); err != nil {
		return nil, failure(err)
	}
	return &csi.DeleteSnapshotResponse{}, failure(remove(c.files.snapshotRecord(id), c.files.snapshotImage(id)))
}

func (c *controllerService) ListSnapshots(
	_ context.Context, request *csi.ListSnapshotsRequest,
) (*csi.ListSnapshotsResponse, error) {
	all, err := c.files.snapshots()
	if err != nil {
		return nil, failure(err)
	}
	sort.Slice(all, func(i, j int) bool { return all[i].ID < all[j].ID })
	start := 0
	if token := request.GetStartingToken(); token != "" {
		if start, err = strconv.Atoi(token); err != nil || start < 0 || start > len(all) {
			return nil, status.Errorf(codes.Aborted, "starting token %q is not valid", token)
		}
	}
	answer := &csi.ListSnapshotsResponse{}
	for index := start; index < len(all); index++ {
		one := all[index]
		if id := request.GetSnapshotId(); id != "" && id != one.ID {
			continue
		}
		if source := request.GetSourceVolumeId(); source != "" && source != one.Source {
			continue
		}
		if limit := int(request.GetMaxEntries()); limit > 0 && len(answer.Entries) == limit {
			answer.NextToken = strconv.Itoa(index)
			break
		}
		answer.Entries = append(answer.Entries, &csi.ListSnapshotsResponse_Entry{Snapshot: described(one)})
	}
	return answer, nil
}

func described(found snapshot) *csi.Snapshot {
	return &csi.Snapshot{
		SnapshotId: found.ID, SourceVolumeId: found.Source, SizeBytes: found.Bytes,
		CreationTime: timestamppb.New(found.Made), ReadyToUse: true,
	}
}

// supported: file systems of one writer, not raw devices.
func supported(capabilities []*csi.VolumeCapability) error {
	if len(capabilities) == 0 {
		return status.Error(codes.InvalidArgument, "the access mode is missing")
	}
	for _, one := range capabilities {
		if one.GetMount() == nil {
			return status.Error(codes.InvalidArgument, "only file systems are provided, no block devices")
		}
		if kind := one.GetMount().GetFsType(); kind != "" && kind != ext4 && kind != xfs {
			return status.Errorf(codes.InvalidArgument, "only ext4 and xfs are provided, not %s", kind)
		}
		switch one.GetAccessMode().GetMode() {
		case csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER,
			csi.VolumeCapability_AccessMode_SINGLE_NODE_READER_ONLY,
			csi.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER,
			csi.VolumeCapability_AccessMode_SINGLE_NODE_MULTI_WRITER:
		default:
			return status.Error(codes.InvalidArgument, "a volume can be used on one node only (ReadWriteOnce)")
		}
	}
	return nil
}

// wantedBytes is what was asked for, in whole blocks.
func wantedBytes(asked *csi.CapacityRange) (int64, error) {
	bytes := max(asked.GetRequiredBytes(), minimumBytes)
	bytes = (bytes + blockBytes - 1) / blockBytes * blockBytes
	if limit := asked.GetLimitBytes(); (limit > 0 && bytes > limit) || bytes > maximumBytes {
		return 0, status.Errorf(codes.OutOfRange, "a volume of %d bytes cannot be had", bytes)
	}
	return bytes, nil
}

// failure keeps a status and makes one of any other error.
func failure(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errNotFound):
		return status.Error(codes.NotFound, "there is no such volume or snapshot")
	}
	if _, known := status.FromError(err); known {
		return err
	}
	return status.Error(codes.Internal, err.Error())
}
