package bundle

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"golang.org/x/mod/module"

	"github.com/modmirror/modmirror/bundle/media"
	"github.com/modmirror/modmirror/index"
	"github.com/modmirror/modmirror/internal/h1"
	"github.com/modmirror/modmirror/internal/modpath"
	"github.com/modmirror/modmirror/internal/selftar"
)

// checkBootstraps checks that the Go in each bootstrap is that of a toolchain in the bundle, which
// the checksum database vouches for. Only the signature vouches for the modmirror in it.
func (c *deepCheck) checkBootstraps(ctx context.Context, damage func(string, error)) error {
	b := c.Bundle
	platforms, err := b.Index.Bootstraps(ctx)
	if err != nil {
		return wrapBad(ctx, err)
	}
	for _, p := range platforms {
		name := modpath.PlatformName(p)
		rel := modpath.Request{Kind: modpath.Self, Name: name}.String()
		f, _, err := b.Index.File(ctx, rel)
		if err != nil {
			return wrapBad(ctx, err)
		}
		if sound, err := c.isSound(ctx, f); err != nil {
			return err
		} else if !sound { // and reported
			continue
		}
		bad := errors.New("the bundle has no toolchain to compare its Go with")
		for v, err := range b.Index.Versions(ctx, modpath.Toolchain) {
			if err != nil {
				return wrapBad(ctx, err)
			}
			if v.ZipSize == nil || !strings.HasSuffix(v.Version, "."+name) {
				continue
			}
			if bad = c.checkBootstrap(ctx, f, module.Version{Path: v.Path, Version: v.Version}); bad == nil {
				break
			}
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if bad != nil {
			damage(rel, bad)
		}
	}
	return nil
}

// checkBootstrap compares the Go in the bootstrap f with a toolchain.
func (c *deepCheck) checkBootstrap(ctx context.Context, f index.File, tool module.Version) error {
	rel := modpath.Request{Kind: modpath.Zip, Path: tool.Path, Version: tool.Version}.String()
	zf, ok, err := c.Index.File(ctx, rel)
	if err == nil && !ok {
		err = fs.ErrNotExist
	}
	if err == nil {
		var sound bool
		if sound, err = c.isSound(ctx, zf); err == nil && !sound {
			err = media.ErrHash
		}
	}
	if err != nil {
		return fmt.Errorf("reading %s: %w", rel, err)
	}
	toolchain, err := c.Content(ctx, zf)
	if err != nil {
		return err
	}
	self, err := c.Content(ctx, f)
	if err != nil {
		return err
	}
	z, err := h1.Open(ctx, toolchain, zf.Size)
	if err != nil {
		return err
	}
	defer z.Close()
	if err := selftar.Check(ctx, self, z.Reader, tool); err != nil {
		return fmt.Errorf("%s: %w", tool.Version, err)
	}
	return nil
}
