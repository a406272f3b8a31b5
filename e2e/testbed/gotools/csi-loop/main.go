// A storage driver for tests: volumes are files with an ext4 file system, mounted through loop devices.
//
// It speaks CSI to the kubelet and to the usual sidecars, and provisions claims itself, since
// external-provisioner is not to be had as a Go module. One node, one process, no redundancy.
package main

import (
	"context"
	"flag"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"k8s.io/klog/v2"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

const driverName = "loop.testbed.lucid"

func main() {
	data := flag.String("data", "", "folder of volumes, snapshots and fault switches")
	node := flag.String("node", "", "name of this node")
	socket := flag.String("socket", "", "the driver's socket")
	registrationSocket := flag.String("registration-socket", "", "the socket that the kubelet watches for")
	kubeconfig := flag.String("kubeconfig", "", "for the provisioner")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	files, err := openStore(*data)
	exitOn(err)
	exitOn(thawAll(files))

	faults := faultSwitches{folder: filepath.Join(*data, "faults")}
	server := grpc.NewServer(grpc.UnaryInterceptor(faults.intercept))
	csi.RegisterIdentityServer(server, identity{})
	csi.RegisterControllerServer(server, &controllerService{files: files})
	csi.RegisterNodeServer(server, &nodeService{files: files, node: *node})
	serve(server, *socket)

	registry := grpc.NewServer()
	registration.RegisterRegistrationServer(registry, registrar{endpoint: *socket})
	serve(registry, *registrationSocket)

	exitOn(provision(ctx, *kubeconfig, *socket))
	<-ctx.Done()
	registry.Stop()
	server.GracefulStop()
}

// serve replaces the socket of an earlier process that was killed.
func serve(server *grpc.Server, path string) {
	exitOn(os.MkdirAll(filepath.Dir(path), 0o750))
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		exitOn(err)
	}
	listener, err := net.Listen("unix", path)
	exitOn(err)
	go func() { exitOn(server.Serve(listener)) }()
}

func exitOn(err error) {
	if err != nil {
		klog.ErrorS(err, "The driver cannot go on")
		os.Exit(1)
	}
}
