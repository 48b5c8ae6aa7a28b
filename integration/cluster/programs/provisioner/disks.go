package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

const (
	// XFS refuses to be smaller. A smaller claim gets such a file all the same, and its volume reports what
	// was asked for: ext4 would take less, but cannot grow while mounted without CAP_SYS_RESOURCE.
	smallestFile = 300 << 20
	// No command here takes longer, or something is stuck.
	commandLimit = time.Minute
)

// disks are the volumes on this machine: ROOT/NODE/NAME holds disk.img, a sparse file, and mount, where it is mounted.
type disks struct{ root string }

func (d disks) folder(node, name string) string { return filepath.Join(d.root, node, name) }
func (d disks) file(node, name string) string   { return filepath.Join(d.folder(node, name), "disk.img") }
func (d disks) mount(node, name string) string  { return filepath.Join(d.folder(node, name), "mount") }

// ensure makes and mounts a volume unless it is there, and returns where it is mounted.
func (d disks) ensure(ctx context.Context, node, name string, bytes int64) (string, error) {
	file, mount := d.file(node, name), d.mount(node, name)
	if is, err := mounted(mount); is || err != nil {
		return mount, err
	}
	if err := os.MkdirAll(mount, 0o755); err != nil {
		return "", err
	}
	if _, err := os.Stat(file); errors.Is(err, os.ErrNotExist) {
		// Under another name until it is whole.
		unfinished := file + ".new"
		if err := os.WriteFile(unfinished, nil, 0o600); err != nil {
			return "", err
		}
		if err := os.Truncate(unfinished, max(bytes, smallestFile)); err != nil {
			return "", err
		}
		if err := run(ctx, "mkfs.xfs", "-q", "-f", "-K", unfinished); err != nil {
			return "", err
		}
		if err := os.Rename(unfinished, file); err != nil {
			return "", err
		}
	} else if err != nil {
		return "", err
	}
	// mount(8) makes the loop device such that it frees itself when it is unmounted.
	return mount, run(ctx, "mount", "-t", "xfs", "-o", "loop", file, mount)
}

// grow enlarges file, loop device and file system. It can be repeated at any point.
func (d disks) grow(ctx context.Context, node, name string, bytes int64) error {
	mount, err := d.ensure(ctx, node, name, bytes)
	if err != nil {
		return err
	}
	file := d.file(node, name)
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	if info.Size() < bytes {
		if err := os.Truncate(file, bytes); err != nil {
			return err
		}
	}
	device, err := output(ctx, "losetup", "--noheadings", "--output", "NAME", "--associated", file)
	if err != nil {
		return err
	}
	if err := run(ctx, "losetup", "--set-capacity", strings.TrimSpace(device)); err != nil {
		return err
	}
	return run(ctx, "xfs_growfs", mount)
}

// unmount also frees the loop device.
func (d disks) unmount(ctx context.Context, node, name string) error {
	mount := d.mount(node, name)
	if is, err := mounted(mount); !is {
		return err
	}
	return run(ctx, "umount", mount)
}

// remove deletes the data of a volume that is not mounted.
func (d disks) remove(node, name string) error {
	if is, err := mounted(d.mount(node, name)); err != nil {
		return err
	} else if is {
		return fmt.Errorf("%s is still mounted", name)
	}
	return os.RemoveAll(d.folder(node, name))
}

// mounted tells whether something is mounted at exactly this folder.
func mounted(folder string) (bool, error) {
	table, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return false, err
	}
	for line := range strings.Lines(string(table)) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[1] == folder {
			return true, nil
		}
	}
	return false, nil
}

func run(ctx context.Context, name string, arguments ...string) error {
	_, err := output(ctx, name, arguments...)
	return err
}

// output runs a command; an error carries what the command said.
func output(ctx context.Context, name string, arguments ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, commandLimit)
	defer cancel()
	command := exec.CommandContext(ctx, name, arguments...)
	var said strings.Builder
	command.Stderr = &said
	out, err := command.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", name, err, strings.TrimSpace(said.String()))
	}
	return string(out), nil
}
