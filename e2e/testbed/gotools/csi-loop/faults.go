package main

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// faultSwitches are files that tests write: <folder>/<Method>.<volume or snapshot>, for instance
// NodeExpandVolume.pvc-1234. While such a file is there, calls of that method for that volume wait and fail as it says.
type faultSwitches struct {
	folder string
}

// fault: a delay as Go writes durations, then the failure, if there is a code. Codes are gRPC's numbers.
type fault struct {
	Delay   string     `json:"delay,omitempty"`
	Code    codes.Code `json:"code,omitempty"`
	Message string     `json:"message,omitempty"`
}

func (f faultSwitches) intercept(
	ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler,
) (any, error) {
	name := path.Base(info.FullMethod) + "." + subject(request)
	content, err := os.ReadFile(filepath.Join(f.folder, filepath.Base(name)))
	if errors.Is(err, fs.ErrNotExist) {
		return handler(ctx, request)
	}
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	if err := applyText(ctx, string(content)); err != nil {
		return nil, err
	}
	return handler(ctx, request)
}

func applyText(ctx context.Context, text string) error {
	var f fault
	if err := json.Unmarshal([]byte(text), &f); err != nil {
		return status.Errorf(codes.Internal, "the fault %q cannot be read: %v", text, err)
	}
	if f.Delay != "" {
		delay, err := time.ParseDuration(f.Delay)
		if err != nil {
			return status.Error(codes.Internal, err.Error())
		}
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		}
	}
	if f.Code != codes.OK {
		return status.Error(f.Code, f.Message)
	}
	return nil
}

// subject is the volume or snapshot that a request is about.
func subject(request any) string {
	switch r := request.(type) {
	case interface{ GetVolumeId() string }:
		return r.GetVolumeId()
	case interface{ GetSourceVolumeId() string }:
		return r.GetSourceVolumeId()
	case interface{ GetSnapshotId() string }:
		return r.GetSnapshotId()
	case interface{ GetName() string }:
		return r.GetName()
	}
	return ""
}
