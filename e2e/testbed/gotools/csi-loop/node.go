package main

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

type nodeService struct {
	csi.UnimplementedNodeServer
	files *store
	node  string
}

func (n *nodeService) NodeGetInfo(context.Context, *csi.NodeGetInfoRequest) (*csi.NodeGetInfoResponse, error) {
	return &csi.NodeGetInfoResponse{NodeId: n.node}, nil
}

func (*nodeService) NodeGetCapabilities(
	context.Context, *csi.NodeGetCapabilitiesRequest,
) (*csi.NodeGetCapabilitiesResponse, error) {
	var capabilities []*csi.NodeServiceCapability
	for _, kind := range []csi.NodeServiceCapability_RPC_Type{
		csi.NodeServiceCapability_RPC_STAGE_UNSTAGE_VOLUME,
		csi.NodeServiceCapability_RPC_EXPAND_VOLUME,
		csi.NodeServiceCapability_RPC_GET_VOLUME_STATS,
	} {
		capabilities = append(capabilities, &csi.NodeServiceCapability{
			Type: &csi.NodeServiceCapability_Rpc{Rpc: &csi.NodeServiceCapability_RPC{Type: kind}},
		})
	}
	return &csi.NodeGetCapabilitiesResponse{Capabilities: capabilities}, nil
}

func (n *nodeService) NodeStageVolume(
	_ context.Context, request *csi.NodeStageVolumeRequest,
) (*csi.NodeStageVolumeResponse, error) {
	if err := supported([]*csi.VolumeCapability{request.GetVolumeCapability()}); err != nil {
		return nil, err
	}
	n.files.Lock()
	defer n.files.Unlock()
	found, err := n.files.volume(request.GetVolumeId())
	if err != nil {
		return nil, failure(err)
	}
	if found.Node != n.node {
		return nil, status.Errorf(codes.FailedPrecondition, "volume %s is not attached to this node", found.ID)
	}
	path := request.GetStagingTargetPath()
	device, err := mountedAt(path)
	if err != nil {
		return nil, failure(err)
	}
	if device == "" {
		// Said before it is done: a mount that nobody remembers could be deleted under its user.
		found.Staged = path
		if err := n.files.save(found); err != nil {
			return nil, failure(err)
		}
		flags := request.GetVolumeCapability().GetMount().GetMountFlags()
		if err := n.mount(&found, path, flags); err != nil {
			return nil, failure(err)
		}
	}
	// A snapshot or an expansion may have left a file system smaller than its image; xfs grows only now.
	if found.FileSystem == xfs {
		return &csi.NodeStageVolumeResponse{}, failure(n.grow(found, path))
	}
	return &csi.NodeStageVolumeResponse{}, nil
}

func (n *nodeService) mount(found *volume, path string, flags []string) error {
	image := n.files.image(found.ID)
	if found.FileSystem == ext4 && found.Filled < found.Bytes {
		if err := growUnmounted(image); err != nil {
			return err
		}
		found.Filled = found.Bytes
		if err := n.files.save(*found); err != nil {
			return err
		}
	}
	return mountImage(found.FileSystem, image, path, flags)
}

// grow is done when the mounted file system fills its image already.
func (n *nodeService) grow(found volume, path string) error {
	if found.Filled >= found.Bytes {
		return nil
	}
	if err := growMounted(found.FileSystem, path); err != nil {
		return err
	}
	found.Filled = found.Bytes
	return n.files.save(found)
}

func (n *nodeService) NodeUnstageVolume(
	_ context.Context, request *csi.NodeUnstageVolumeRequest,
) (*csi.NodeUnstageVolumeResponse, error) {
	n.files.Lock()
	defer n.files.Unlock()
	if err := unmount(request.GetStagingTargetPath()); err != nil {
		return nil, failure(err)
	}
	found, err := n.files.volume(request.GetVolumeId())
	if errors.Is(err, errNotFound) {
		return &csi.NodeUnstageVolumeResponse{}, nil
	}
	if err != nil {
		return nil, failure(err)
	}
	found.Staged = ""
	return &csi.NodeUnstageVolumeResponse{}, failure(n.files.save(found))
}

func (n *nodeService) NodePublishVolume(
	_ context.Context, request *csi.NodePublishVolumeRequest,
) (*csi.NodePublishVolumeResponse, error) {
	if _, err := n.files.volume(request.GetVolumeId()); err != nil {
		return nil, failure(err)
	}
	target := request.GetTargetPath()
	if err := os.MkdirAll(target, 0o750); err != nil {
		return nil, failure(err)
	}
	device, err := mountedAt(target)
	if err != nil {
		return nil, failure(err)
	}
	if device != "" {
		return &csi.NodePublishVolumeResponse{}, nil
	}
	return &csi.NodePublishVolumeResponse{}, failure(bind(request.GetStagingTargetPath(), target, request.GetReadonly()))
}

func (n *nodeService) NodeUnpublishVolume(
	_ context.Context, request *csi.NodeUnpublishVolumeRequest,
) (*csi.NodeUnpublishVolumeResponse, error) {
	target := request.GetTargetPath()
	if err := unmount(target); err != nil {
		return nil, failure(err)
	}
	if err := os.Remove(target); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, failure(err)
	}
	return &csi.NodeUnpublishVolumeResponse{}, nil
}

func (n *nodeService) NodeExpandVolume(
	_ context.Context, request *csi.NodeExpandVolumeRequest,
) (*csi.NodeExpandVolumeResponse, error) {
	n.files.Lock()
	defer n.files.Unlock()
	found, err := n.files.volume(request.GetVolumeId())
	if err != nil {
		return nil, failure(err)
	}
	path := request.GetStagingTargetPath()
	if path == "" {
		path = request.GetVolumePath()
	}
	return &csi.NodeExpandVolumeResponse{CapacityBytes: found.Bytes}, failure(n.grow(found, path))
}

func (n *nodeService) NodeGetVolumeStats(
	_ context.Context, request *csi.NodeGetVolumeStatsRequest,
) (*csi.NodeGetVolumeStatsResponse, error) {
	if _, err := n.files.volume(request.GetVolumeId()); err != nil {
		return nil, failure(err)
	}
	var found unix.Statfs_t
	if err := unix.Statfs(request.GetVolumePath(), &found); err != nil {
		return nil, status.Errorf(codes.NotFound, "%s: %v", request.GetVolumePath(), err)
	}
	block := found.Bsize
	return &csi.NodeGetVolumeStatsResponse{Usage: []*csi.VolumeUsage{
		{
			Unit: csi.VolumeUsage_BYTES, Total: int64(found.Blocks) * block,
			Available: int64(found.Bavail) * block, Used: int64(found.Blocks-found.Bfree) * block,
		},
		{
			Unit: csi.VolumeUsage_INODES, Total: int64(found.Files),
			Available: int64(found.Ffree), Used: int64(found.Files - found.Ffree),
		},
	}}, nil
}
