package main

import (
	"path/filepath"

	"github.com/spf13/pflag"

	"github.com/modmirror/modmirror/bundle/media"
	"github.com/modmirror/modmirror/bundle/media/object"
	"github.com/modmirror/modmirror/internal/hint"
)

// storageFlags are the flags for a bucket, s3://BUCKET/PREFIX, and the cache of its contents.
type storageFlags struct{ endpoint, dir, size string }

func (f *storageFlags) flags(fs *pflag.FlagSet) {
	endpointFlag(fs, &f.endpoint)
	fs.StringVar(&f.dir, "cache-dir", "", "`folder` in which contents from s3:// are cached; default below --state")
	fs.StringVar(&f.size, "cache-size", "10G", "`size` that this folder may have, 1G at least")
}

// endpointFlag adds the flag for the URL of the storage.
func endpointFlag(fs *pflag.FlagSet, endpoint *string) {
	fs.StringVar(endpoint, "s3-endpoint", "", "`URL` of the storage of s3://; default $AWS_ENDPOINT_URL, else Amazon's")
}

// open opens a bucket with a cache, by default below the state directory. The caller closes it.
func (f *storageFlags) open(url, state string) (*object.Bucket, error) {
	size, err := media.ParseSize(f.size)
	if err != nil {
		return nil, usagef("--cache-size: %v", err)
	}
	if _, err := object.Open(url, f.endpoint, nil); err != nil { // before a folder is made
		return nil, usagef("%v", err)
	}
	if f.dir == "" {
		f.dir = filepath.Join(state, "cache")
	}
	if size < media.MinCache {
		return nil, usagef("--cache-size %s: want 1G at least, for the largest modules", f.size)
	}
	cache, err := media.OpenCache(f.dir, size)
	if err != nil {
		return nil, &hint.Error{Err: err, Hint: "--cache-dir and --cache-size say where, and how large"}
	}
	return object.Open(url, f.endpoint, cache)
}
