package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// volume is what the driver remembers of a volume: <id>.json beside <id>.img, written after it.
type volume struct {
	ID         string `json:"id"`
	FileSystem string `json:"fileSystem"`
	Bytes      int64  `json:"bytes"`
	// Filled is the size of the image when the file system was last fitted to it.
	Filled int64 `json:"filled"`
	// From is the snapshot that the volume was made of.
	From string `json:"from,omitempty"`
	// Node is where the volume is attached.
	Node string `json:"node,omitempty"`
	// Staged is where its file system is mounted on that node.
	Staged string `json:"staged,omitempty"`
}

type snapshot struct {
	ID         string    `json:"id"`
	Source     string    `json:"source"`
	FileSystem string    `json:"fileSystem"`
	Bytes      int64     `json:"bytes"`
	Filled     int64     `json:"filled"`
	Made       time.Time `json:"made"`
}

var errNotFound = errors.New("not found")

// store keeps images and records; whoever changes one holds the lock.
type store struct {
	sync.Mutex
	folder string
}

func openStore(folder string) (*store, error) {
	for _, name := range []string{"volumes", "snapshots", "faults"} {
		if err := os.MkdirAll(filepath.Join(folder, name), 0o750); err != nil {
			return nil, err
		}
	}
	return &store{folder: folder}, nil
}

func (s *store) image(id string) string { return filepath.Join(s.folder, "volumes", id+".img") }
func (s *store) snapshotImage(id string) string {
	return filepath.Join(s.folder, "snapshots", id+".img")
}
func (s *store) record(id string) string { return filepath.Join(s.folder, "volumes", id+".json") }
func (s *store) snapshotRecord(id string) string {
	return filepath.Join(s.folder, "snapshots", id+".json")
}

// checked refuses what could leave the folder.
func checked(id string) error {
	if id == "" || strings.ContainsAny(id, "/\x00") || strings.HasPrefix(id, ".") {
		return fmt.Errorf("%q cannot name a volume", id)
	}
	return nil
}

func (s *store) volume(id string) (volume, error) {
	var found volume
	if err := checked(id); err != nil {
		return found, err
	}
	return found, read(s.record(id), &found)
}

func (s *store) save(v volume) error { return write(s.record(v.ID), v) }

func (s *store) volumes() ([]volume, error) {
	return list[volume](filepath.Join(s.folder, "volumes"))
}

func (s *store) snapshot(id string) (snapshot, error) {
	var found snapshot
	if err := checked(id); err != nil {
		return found, err
	}
	return found, read(s.snapshotRecord(id), &found)
}

func (s *store) saveSnapshot(found snapshot) error { return write(s.snapshotRecord(found.ID), found) }

func (s *store) snapshots() ([]snapshot, error) {
	return list[snapshot](filepath.Join(s.folder, "snapshots"))
}

// format makes an empty file system of that size. The file is sparse.
func (s *store) format(wanted volume) error {
	draft := s.image(wanted.ID) + ".new"
	file, err := os.Create(draft)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := file.Truncate(wanted.Bytes); err != nil {
		return err
	}
	if err := makeFileSystem(wanted.FileSystem, draft); err != nil {
		return err
	}
	return os.Rename(draft, s.image(wanted.ID))
}

// copyImage keeps holes, so that the copy takes no more room than the data.
func copyImage(source, target string) error {
	draft := target + ".new"
	if err := run("cp", "--sparse=always", "--reflink=auto", source, draft); err != nil {
		return err
	}
	return os.Rename(draft, target)
}

// grow makes the image larger, never smaller; the file system follows when it is mounted.
func grow(image string, bytes int64) error {
	found, err := os.Stat(image)
	if err != nil {
		return err
	}
	if found.Size() >= bytes {
		return nil
	}
	return os.Truncate(image, bytes)
}

// remove takes the record first: an image without one is nobody's, and is overwritten by the next of its name.
func remove(record, image string) error {
	for _, path := range []string{record, image, image + ".new"} {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func read(path string, into any) error {
	content, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return errNotFound
	}
	if err != nil {
		return err
	}
	return json.Unmarshal(content, into)
}

func write(path string, value any) error {
	content, err := json.Marshal(value)
	if err != nil {
		return err
	}
	draft := path + ".new"
	if err := os.WriteFile(draft, content, 0o600); err != nil {
		return err
	}
	return os.Rename(draft, path)
}

func list[T any](folder string) ([]T, error) {
	paths, err := filepath.Glob(filepath.Join(folder, "*.json"))
	if err != nil {
		return nil, err
	}
	found := make([]T, 0, len(paths))
	for _, path := range paths {
		var one T
		if err := read(path, &one); errors.Is(err, errNotFound) {
			continue
		} else if err != nil {
			return nil, err
		}
		found = append(found, one)
	}
	return found, nil
}

func run(name string, arguments ...string) error {
	output, err := exec.Command(name, arguments...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, strings.TrimSpace(string(output)))
	}
	return nil
}
