package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"
)

const (
	fiFreeze = 0xC0045877 // linux/fs.h
	fiThaw   = 0xC0045878
)

func bind(source, target string, readonly bool) error {
	if err := unix.Mount(source, target, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("binding %s: %w", target, err)
	}
	if !readonly {
		return nil
	}
	if err := unix.Mount("", target, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""); err != nil {
		return errors.Join(fmt.Errorf("making %s read-only: %w", target, err), unmount(target))
	}
	return nil
}

// unmount is done when nothing is mounted there.
func unmount(path string) error {
	for {
		device, err := mountedAt(path)
		if err != nil || device == "" {
			return err
		}
		if err := unix.Unmount(path, 0); err != nil {
			return fmt.Errorf("unmounting %s: %w", path, err)
		}
	}
}

// mountedAt is the device of the last mount on the path, or nothing.
func mountedAt(path string) (string, error) {
	file, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	defer file.Close()
	device := ""
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		if len(words) < 10 || unescaped(words[4]) != path {
			continue
		}
		for index, word := range words {
			if word == "-" && index+2 < len(words) {
				device = words[index+2]
			}
		}
	}
	return device, lines.Err()
}

// unescaped: the kernel writes blanks in paths as octal numbers.
func unescaped(path string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(path)
}

// frozen runs the action while nothing is written to the file system at path.
func frozen(path string, action func() error) error {
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	defer folder.Close()
	if err := unix.IoctlSetInt(int(folder.Fd()), fiFreeze, 0); err != nil {
		return fmt.Errorf("freezing %s: %w", path, err)
	}
	failed := action()
	if err := unix.IoctlSetInt(int(folder.Fd()), fiThaw, 0); err != nil {
		return errors.Join(failed, fmt.Errorf("thawing %s: %w", path, err))
	}
	return failed
}

// thawAll sets free what a killed process left frozen, and forgets mounts that ended with the node.
func thawAll(files *store) error {
	all, err := files.volumes()
	if err != nil {
		return err
	}
	for _, one := range all {
		if one.Staged == "" {
			continue
		}
		device, err := mountedAt(one.Staged)
		if err != nil {
			return err
		}
		if device == "" {
			one.Staged = ""
			if err := files.save(one); err != nil {
				return err
			}
			continue
		}
		folder, err := os.Open(one.Staged)
		if err != nil {
			return err
		}
		if err := unix.IoctlSetInt(int(folder.Fd()), fiThaw, 0); err == nil {
			klog.InfoS("Thawed a volume that was left frozen", "volume", one.ID)
		} else if !errors.Is(err, unix.EINVAL) { // EINVAL: it was not frozen
			return err
		}
		if err := folder.Close(); err != nil {
			return err
		}
	}
	return nil
}
