package bundle

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"golang.org/x/mod/module"

	"github.com/modmirror/modmirror/index"
	"github.com/modmirror/modmirror/internal/h1"
	"github.com/modmirror/modmirror/internal/modpath"
	"github.com/modmirror/modmirror/internal/selftar"
)

// checkBootstraps checks that the Go in each bootstrap is that of a toolchain in the bundle, which
// the checksum database vouches for. Only the signature vouches for the modmirror in it.
func (b *Bundle) checkBootstraps(ctx context.Context, damage func(string, error)) error {
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
		bad := errors.New("the bundle has no toolchain to compare its Go with")
		for v, err := range b.Index.Versions(ctx, modpath.Toolchain) {
			if err != nil {
				return wrapBad(ctx, err)
			}
			if v.ZipSize == nil || !strings.HasSuffix(v.Version, "."+name) {
				continue
			}
			if bad = b.checkBootstrap(ctx, f, module.Version{Path: v.Path, Version: v.Version}); bad == nil {
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
func (b *Bundle) checkBootstrap(ctx context.Context, f index.File, tool module.Version) error {
	rel := modpath.Request{Kind: modpath.Zip, Path: tool.Path, Version: tool.Version}.String()
	zf, ok, err := b.Index.File(ctx, rel)
	if err == nil && !ok {
		err = fs.ErrNotExist
	}
	if err != nil {
		return fmt.Errorf("reading %s: %w", rel, err)
	}
	toolchain, err := b.Content(ctx, zf)
	if err != nil {
		return err
	}
	self, err := b.Content(ctx, f)
	if err != nil {
		return err
	}
	z, err := h1.Open(toolchain, zf.Size)
	if err != nil {
		return err
	}
	if err := selftar.Check(ctx, self, z, tool); err != nil {
		return fmt.Errorf("%s: %w", tool.Version, err)
	}
	return nil
}
