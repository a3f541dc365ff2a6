package mirror

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/modmirror/modmirror/internal/modpath"
)

// maxVulns bounds the entries of a vulnerability database: a hundred times today's number.
const maxVulns = 500_000

// A vuln is the part of an entry, and of the index of entries, that identifies it
// (https://go.dev/doc/security/vuln/database).
type vuln struct {
	ID       string    `json:"id"`
	Modified time.Time `json:"modified"`
}

// vulndb brings the whole vulnerability database into the mirror directory, and enters its files
// into the result. It fetches only entries that the directory does not have as the index names
// them.
func (r *run) vulndb(ctx context.Context) error {
	from := r.job.VulnDB
	if from == "" {
		return nil
	}
	var entries []vuln
	data, err := r.readVulnDB(ctx, from, "index/vulns.json")
	if err == nil {
		err = json.Unmarshal(data, &entries)
	}
	if err == nil && (len(entries) == 0 || len(entries) > maxVulns) {
		err = fmt.Errorf("it names %d entries", len(entries))
	}
	if err != nil {
		return fmt.Errorf("vulnerability database %s: index/vulns.json: %w", from, err)
	}
	ids := make(map[string]bool, len(entries))
	for _, e := range entries {
		if ids[e.ID] {
			return fmt.Errorf("vulnerability database %s: index/vulns.json: it names %.40q twice", from, e.ID)
		}
		ids[e.ID] = true
	}
	files := make([]File, len(entries), len(entries)+3)
	eg, egctx := errgroup.WithContext(ctx)
	eg.SetLimit(r.cfg.Parallel)
	for i, e := range entries {
		eg.Go(func() (err error) {
			if files[i], err = r.vulnEntry(egctx, from, e); err != nil {
				err = fmt.Errorf("vulnerability database %s: entry %.40q: %w", from, e.ID, err)
			}
			return err
		})
	}
	if err := eg.Wait(); err != nil {
		return err
	}
	// Comes last, so that the directory's index names only entries that the directory has.
	for _, name := range []string{"index/vulns.json", "index/modules.json", "index/db.json"} {
		if name != "index/vulns.json" {
			if data, err = r.readVulnDB(ctx, from, name); err == nil && !json.Valid(data) {
				err = fmt.Errorf("it is not JSON")
			}
			if err != nil {
				return fmt.Errorf("vulnerability database %s: %s: %w", from, name, err)
			}
		}
		f, err := r.keep(modpath.VulnFile(name), data)
		if err != nil {
			return err
		}
		files = append(files, f)
	}
	r.out.Vulns = files
	return nil
}

// vulnEntry returns an entry from the mirror directory when it is as want says, and else from the
// database. The database's may be newer, since it may have changed after the index was read.
func (r *run) vulnEntry(ctx context.Context, from string, want vuln) (File, error) {
	name := "ID/" + want.ID + ".json"
	path := modpath.VulnFile(name)
	if _, err := modpath.Parse(path); err != nil || strings.Contains(want.ID, "/") {
		return File{}, fmt.Errorf("not an id")
	}
	var got vuln
	check := func(data []byte) error {
		got = vuln{}
		if err := json.Unmarshal(data, &got); err != nil {
			return err
		}
		if got.ID != want.ID || got.Modified.Before(want.Modified) {
			return fmt.Errorf("it is %.40q of %s, and the index names %s",
				got.ID, got.Modified.Format(time.RFC3339), want.Modified.Format(time.RFC3339))
		}
		return nil
	}
	data, ok, err := r.fetch.dir.read(path)
	if err != nil {
		return File{}, err
	}
	if !ok || check(data) != nil || !got.Modified.Equal(want.Modified) {
		if data, err = r.readVulnDB(ctx, from, name); err == nil {
			err = check(data)
		}
		if err != nil {
			return File{}, err
		}
	}
	return r.keep(path, data)
}

// keep writes a file that may change from run to run.
func (r *run) keep(path string, data []byte) (File, error) {
	return File{Path: path, Size: int64(len(data)), SHA256: sha256.Sum256(data)}, r.fetch.dir.update(path, data)
}

// readVulnDB reads a file of a vulnerability database at a URL or in a folder.
func (r *run) readVulnDB(ctx context.Context, from, name string) ([]byte, error) {
	if u, err := url.Parse(from); err == nil && (u.Scheme == "http" || u.Scheme == "https") {
		return r.fetch.getURL(ctx, strings.TrimSuffix(from, "/")+"/"+name, 0)
	} else if err == nil && u.Scheme == "file" {
		from = u.Path
	}
	return os.ReadFile(filepath.Join(from, filepath.FromSlash(name)))
}
