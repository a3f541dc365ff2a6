package main

import (
	"path/filepath"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/internal/bucket"
)

// remoteFlags are the flags about s3://.
type remoteFlags struct{ endpoint, dir, size string }

// open opens a bucket with a cache.
func (f *remoteFlags) open(url, state string) (*bundle.Remote, error) {
	size, err := bundle.ParseSize(f.size)
	if err != nil {
		return nil, usagef("--cache-size: %v", err)
	}
	b, err := bucket.Open(url, f.endpoint)
	if err != nil {
		return nil, usagef("%v", err)
	}
	if f.dir == "" {
		f.dir = filepath.Join(state, "cache")
	}
	if size < bundle.MinCache {
		return nil, usagef("--cache-size %s: want 1G at least, for the largest modules", f.size)
	}
	cache, err := bundle.OpenCache(f.dir, size)
	if err != nil {
		return nil, &hintError{err, "--cache-dir and --cache-size say where, and how large"}
	}
	return &bundle.Remote{Bucket: b, Cache: cache}, nil
}
