package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	ext4 = "ext4"
	xfs  = "xfs"
)

// defaultFileSystem is ext4 where this process may grow it while it is mounted. The kernel asks for a capability that
// the root of many virtual machines and containers lacks; growing xfs needs only the right to mount.
func defaultFileSystem() (string, error) {
	allowed, err := growsMountedExt4()
	if err != nil || !allowed {
		return xfs, err
	}
	return ext4, nil
}

func growsMountedExt4() (bool, error) {
	file, err := os.Open("/proc/self/status")
	if err != nil {
		return false, err
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), ":")
		if name == "CapEff" {
			bits, err := strconv.ParseUint(strings.TrimSpace(value), 16, 64)
			return bits&(1<<unix.CAP_SYS_RESOURCE) != 0, err
		}
	}
	return false, fmt.Errorf("/proc/self/status names no capabilities: %v", lines.Err())
}

// makeFileSystem formats the file. The tools think that xfs below 300 MB is a mistake; tests want small volumes.
func makeFileSystem(kind, image string) error {
	if kind == xfs {
		return run("mkfs.xfs", "-q", "-f", "--unsupported", image)
	}
	return run("mkfs.ext4", "-q", "-F", "-m", "0", image)
}

// growUnmounted makes an ext4 file system as large as its image.
func growUnmounted(image string) error {
	// 1 says that it repaired something, such as a journal that was not played.
	var ended *exec.ExitError
	if err := run("e2fsck", "-f", "-p", image); err != nil && !(errors.As(err, &ended) && ended.ExitCode() == 1) {
		return err
	}
	return run("resize2fs", image)
}

// growMounted lets the loop device see the size of its image, and the file system take all of it.
func growMounted(kind, path string) error {
	device, err := mountedAt(path)
	if err != nil {
		return err
	}
	if !strings.HasPrefix(device, "/dev/loop") {
		return fmt.Errorf("%s is no mounted volume", path)
	}
	if kind == ext4 {
		if allowed, err := growsMountedExt4(); err != nil {
			return err
		} else if !allowed {
			return status.Error(codes.FailedPrecondition, "the volume grows when it is mounted the next time")
		}
	}
	file, err := os.Open(device)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := unix.IoctlSetInt(int(file.Fd()), unix.LOOP_SET_CAPACITY, 0); err != nil {
		return fmt.Errorf("the size of %s: %w", device, err)
	}
	if kind == xfs {
		return run("xfs_growfs", path)
	}
	return run("resize2fs", device)
}

// mountImage lets mount(8) make the loop device: it sets autoclear, so that the kernel frees the device with the last
// mount, also when the node is killed.
func mountImage(kind, image, target string, flags []string) error {
	options := append([]string{"loop"}, flags...)
	if kind == xfs {
		options = append(options, "nouuid") // a snapshot has the identity of its source
	}
	return run("mount", "-t", kind, "-o", strings.Join(options, ","), image, target)
}
