package e2e

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// zipOf is the path of a zip of mkbundle's.
func zipOf(n int) string { return fmt.Sprintf("/bench.example/m%08d/@v/v1.0.%d.zip", n/10, n%10) }

// content returns the original of a zip.
func (m *machine) content(file, path string) []byte {
	m.t.Helper()
	m.must("modmirror", "extract", "-d", filepath.Join(m.dir, "tree"), file, path[1:])
	data, err := os.ReadFile(filepath.Join(m.dir, "tree", path))
	if err != nil {
		m.t.Fatal(err)
	}
	return data
}

// published returns a machine with storage in which there is a bundle of n modules with zips of
// size bytes, s3://modules/team, and the bundle's file.
func published(t *testing.T, n int, size int64) (m *machine, s *storage, file string) {
	t.Helper()
	m = newMachine(t)
	s = newStorage(m)
	file = m.synthetic("team", n, size)
	m.must("modmirror", "publish", "--to", "s3://modules/team", file)
	return m, s, file
}

// TestPublish: an upload is the bundle, byte by byte; one that is broken off goes on where it was;
// a part that is changed on its way is refused; what is there is not sent again; a delta needs its
// base, and an older bundle is refused.
func TestPublish(t *testing.T) {
	m := newMachine(t)
	s := newStorage(m)
	file := m.synthetic("big", 6, 20_000_000) // 8 parts of 16 MiB
	s.proxy.stopped.Store(4)
	p := m.start("modmirror", "publish", "--to", "s3://modules/a", file)
	eventually(t, "four parts", func() bool { return s.proxy.parts.Load() > 5 })
	time.Sleep(300 * time.Millisecond)
	p.kill()
	if list, _ := filepath.Glob(s.data + "/modules/a/*.tar"); len(list) > 0 {
		t.Fatalf("half a bundle is there: %v", list)
	}
	s.proxy.stopped.Store(0)
	s.proxy.parts.Store(0)
	m.must("modmirror", "publish", "--to", "s3://modules/a", file)
	if n := s.proxy.parts.Load(); n < 1 || n > 5 {
		t.Errorf("%d of 8 parts were sent after 4 were there", n)
	}
	t.Logf("taken up again: %d of 8 parts were sent", s.proxy.parts.Load())
	want, _ := os.ReadFile(file)
	got, err := os.ReadFile(s.data + "/modules/a/big-1.tar")
	if err != nil || !bytes.Equal(want, got) {
		t.Errorf("what is there is not the bundle: %v", err)
	}
	s.proxy.parts.Store(0)
	if out := m.must("modmirror", "publish", "--to", "s3://modules/a", file); !strings.Contains(out, "is there already") || s.proxy.parts.Load() > 0 {
		t.Errorf("again: %s, %d parts", out, s.proxy.parts.Load())
	}
	// A part that is changed on its way.
	s.proxy.spoil.Store(1000)
	if out, err := m.run("modmirror", "publish", "--to", "s3://modules/b", file); err == nil {
		t.Errorf("a changed upload was taken:\n%s", out)
	} else {
		t.Log(strings.TrimSpace(out))
	}
	if list, _ := filepath.Glob(s.data + "/modules/b/*.tar"); len(list) > 0 {
		t.Error("and is there")
	}
	s.proxy.spoil.Store(0)
	// A damaged bundle.
	want[len(want)/2] ^= 1
	os.WriteFile(file, want, 0o666)
	if out, err := m.run("modmirror", "publish", "--to", "s3://modules/c", file); err == nil || !strings.Contains(out, "does not verify") {
		t.Errorf("a damaged bundle: %v\n%s", err, out)
	}
	if _, err := m.run("modmirror", "publish", "--to", "s3://nowhere/c", file); err == nil {
		t.Error("a bucket that is not there")
	}
}

// TestReplicas: replicas give the same bytes under the same ETags, and a new bundle shows up on all
// of them; one that is older does not.
func TestReplicas(t *testing.T) {
	m, _, file := published(t, 20, 100_000)
	_, a := m.serve("a", "s3://modules/team")
	_, b := m.serve("b", "s3://modules/team")
	for _, path := range []string{zipOf(3), "/bench.example/m00000000/@v/v1.0.3.info", "/bench.example/m00000001/@v/list"} {
		_, body1, h1, err1 := get(a + path)
		_, body2, h2, err2 := get(b + path)
		if err1 != nil || err2 != nil || body1 != body2 || h1.Get("ETag") == "" || h1.Get("ETag") != h2.Get("ETag") || h1.Get("Last-Modified") != h2.Get("Last-Modified") {
			t.Errorf("%s: %v %v, %d and %d bytes, %v and %v", path, err1, err2, len(body1), len(body2), h1, h2)
		}
		if path == zipOf(3) && body1 != string(m.content(file, path)) {
			t.Error("not the zip that was published")
		}
	}
	if status, body, _, err := get(a+zipOf(5), "Range", "bytes=1000-1999"); status != 206 || err != nil || body != string(m.content(file, zipOf(5))[1000:2000]) {
		t.Errorf("a range of what is not cached: %d %v", status, err)
	}
	other := m.synthetic("tools", 5, 1000) // another line
	m.must("modmirror", "publish", "--to", "s3://modules/team", other)
	for _, url := range []string{a, b} {
		eventually(t, "the new line on "+url, func() bool { _, body, _, _ := get(url + "/metrics"); return strings.Contains(body, `name="tools"`) })
	}
}

// TestStorageAway: without its storage a replica serves what is cached and says so; what is not
// cached is refused with words; with the storage back all is well. A transfer during which the
// storage is away for a while comes to its end.
func TestStorageAway(t *testing.T) {
	m, s, file := published(t, 20, 4_000_000)
	_, url := m.serve("a", "s3://modules/team")
	for _, path := range []string{zipOf(1), "/bench.example/m00000000/@v/v1.0.1.mod"} {
		if status, _, _, err := get(url + path); status != 200 || err != nil {
			t.Fatal(status, err)
		}
	}
	s.gw.stop()
	eventually(t, "readyz", func() bool {
		status, body, _, _ := get(url + "/readyz")
		return status == 200 && strings.Contains(body, "the storage has not answered since")
	})
	_, body, _, _ := get(url + "/readyz")
	t.Log(strings.TrimSpace(body))
	if v := metric(t, url, "modmirror_store_up"); v != 0 {
		t.Errorf("modmirror_store_up is %v", v)
	}
	if status, body, _, err := get(url + zipOf(1)); status != 200 || err != nil || body != string(m.content(file, zipOf(1))) {
		t.Errorf("what is cached: %d %v", status, err)
	}
	start := time.Now()
	status, body, header, err := get(url + zipOf(2))
	if status != 503 || err != nil || header.Get("Retry-After") == "" || !strings.Contains(body, "the storage behind this server does not answer") {
		t.Errorf("what is not cached: %d %q %v", status, body, err)
	}
	t.Logf("what is not cached: %d after %.1f s: %s", status, time.Since(start).Seconds(), strings.TrimSpace(body))
	s.start()
	eventually(t, "the storage is back", func() bool { status, _, _, _ := get(url + zipOf(2)); return status == 200 })
	eventually(t, "readyz", func() bool { _, body, _, _ := get(url + "/readyz"); return body == "ready\n" })

	// Away in the middle of a transfer.
	s.proxy.rate.Store(2_000_000)
	done := make(chan error, 1)
	go func() {
		status, body, _, err := get(url + zipOf(7))
		if err == nil && (status != 200 || body != string(m.content(file, zipOf(7)))) {
			err = fmt.Errorf("%d, %d bytes", status, len(body))
		}
		done <- err
	}()
	time.Sleep(700 * time.Millisecond)
	s.proxy.cut.Store(1)
	s.gw.kill()
	time.Sleep(2 * time.Second)
	s.start()
	if err := <-done; err != nil {
		t.Errorf("a transfer during which the storage was away for 2 s: %v", err)
	}
}

// TestStartWithoutStorage: a replica that starts while the storage is away waits for it, and says
// so.
func TestStartWithoutStorage(t *testing.T) {
	m, s, _ := published(t, 2, 1000)
	s.gw.stop()
	port := freePort(t)
	m.start("modmirror", "serve", "--addr", "127.0.0.1:"+port, "s3://modules/team")
	eventually(t, "readyz", func() bool {
		status, body, _, _ := get("http://127.0.0.1:" + port + "/readyz")
		return status == 503 && strings.Contains(body, "not ready: listing (s3://modules/team)")
	})
	s.start()
	eventually(t, "ready", func() bool { status, _, _, _ := get("http://127.0.0.1:" + port + "/readyz"); return status == 200 })
}

// TestColdStream: a cold zip streams from its first bytes, to several clients by one fetch; memory
// does not grow with it.
func TestColdStream(t *testing.T) {
	m, s, file := published(t, 2, 100_000_000)
	p, url := m.serve("a", "s3://modules/team")
	want := sha256.Sum256(m.content(file, zipOf(0)))
	s.proxy.rate.Store(25_000_000) // 4 s for all of it
	s.proxy.reads.Store(0)
	var wg sync.WaitGroup
	for i := range 5 {
		wg.Go(func() {
			start := time.Now()
			resp, err := http.Get(url + zipOf(0))
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			h := sha256.New()
			first := make([]byte, 1000)
			io.ReadFull(resp.Body, first)
			toFirst := time.Since(start)
			h.Write(first)
			n, err := io.Copy(h, resp.Body)
			if err != nil || [32]byte(h.Sum(nil)) != want {
				t.Errorf("client %d: %d bytes, %v", i, n, err)
			}
			if toFirst > time.Second {
				t.Errorf("client %d: the first bytes after %v", i, toFirst)
			}
			if i == 0 {
				t.Logf("a cold zip of 100 MB at 25 MB/s: the first 1,000 bytes after %.0f ms, all after %.1f s", toFirst.Seconds()*1000, time.Since(start).Seconds())
			}
		})
	}
	wg.Wait()
	if n := s.proxy.reads.Load(); n != 1 {
		t.Errorf("%d fetches for 5 clients", n)
	}
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	for line := range strings.Lines(string(status)) {
		if strings.HasPrefix(line, "VmHWM") {
			t.Log("peak memory of the replica: ", strings.TrimSpace(line))
		}
	}
	// Again, from the cache, also after a restart.
	p.stop()
	_, url = m.serve("a", "s3://modules/team")
	s.proxy.reads.Store(0)
	if status, body, _, err := get(url + zipOf(0)); status != 200 || err != nil || sha256.Sum256([]byte(body)) != want || s.proxy.reads.Load() > 0 {
		t.Errorf("from the cache: %d %v, %d fetches", status, err, s.proxy.reads.Load())
	}
}

// TestLyingStorage: no client gets a complete wrong body, whether the storage, the network or the
// disk of the cache is wrong, and the next request is right.
func TestLyingStorage(t *testing.T) {
	m, s, file := published(t, 5, 2_000_000)
	p, url := m.serve("a", "s3://modules/team")
	want := string(m.content(file, zipOf(0)))
	s.proxy.lie.Store(true)
	for _, headers := range [][]string{nil, {"Range", "bytes=0-99"}} {
		if status, body, _, err := get(url+zipOf(0), headers...); err == nil && status < 300 {
			t.Errorf("a wrong body of %d bytes was sent whole: %d", len(body), status)
		}
	}
	if status, body, _, _ := get(url + "/bench.example/m00000000/@v/v1.0.1.mod"); status == 200 {
		t.Errorf("a wrong small file: %q", body)
	}
	if v := metric(t, url, "modmirror_verification_failures_total"); v < 1 {
		t.Error("no metric says so")
	}
	s.proxy.lie.Store(false)
	if status, body, _, err := get(url + zipOf(0)); status != 200 || err != nil || body != want {
		t.Errorf("the next one: %d %v", status, err)
	}
	eventually(t, "ready again, without anybody asking for what was wrong", func() bool { status, _, _, _ := get(url + "/readyz"); return status == 200 })
	// The disk of the cache, while the server runs and before it starts.
	flip := func() {
		sum := sha256.Sum256([]byte(want))
		name := filepath.Join(m.dir, "a", "cache", fmt.Sprintf("%02x/%x", sum[0], sum))
		f, err := os.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		b := make([]byte, 1)
		f.ReadAt(b, 1_000_000)
		b[0] ^= 1
		f.WriteAt(b, 1_000_000)
	}
	for _, restart := range []bool{false, true} {
		flip()
		if restart {
			p.stop()
			p, url = m.serve("a", "s3://modules/team")
		}
		if _, body, _, err := get(url + zipOf(0)); err == nil && body != want {
			t.Errorf("a wrong body from the cache, restart %v", restart)
		}
		if status, body, _, err := get(url + zipOf(0)); status != 200 || err != nil || body != want {
			t.Errorf("the next one, restart %v: %d %v", restart, status, err)
		}
	}
	// Cut by the network: it goes on where it was.
	s.proxy.cut.Store(1)
	if status, body, _, err := get(url + zipOf(3)); status != 200 || err != nil || body != string(m.content(file, zipOf(3))) {
		t.Errorf("a connection to the storage that breaks: %d %v", status, err)
	}
}

// TestDamagedCopy: a small file of the cache that a crash damaged is fetched anew, without the
// server being unready for it.
func TestDamagedCopy(t *testing.T) {
	m, _, _ := published(t, 5, 1000)
	p, url := m.serve("a", "s3://modules/team")
	path := "/bench.example/m00000000/@v/v1.0.1.info"
	_, want, _, err := get(url + path)
	if err != nil {
		t.Fatal(err)
	}
	p.stop()
	sum := sha256.Sum256([]byte(want))
	name := filepath.Join(m.dir, "a", "cache", fmt.Sprintf("%02x/%x", sum[0], sum))
	if err := os.WriteFile(name, make([]byte, len(want)), 0o600); err != nil {
		t.Fatal(err)
	}
	_, url = m.serve("a", "s3://modules/team")
	if status, body, _, err := get(url + path); status != 200 || body != want || err != nil {
		t.Errorf("%d %q %v", status, body, err)
	}
	if status, body, _, _ := get(url + "/readyz"); status != 200 {
		t.Errorf("readyz: %d %s", status, body)
	}
}

// TestHiddenBundle: a storage that no longer lists the newest bundle, or does not give it out, does
// not bring an older one back, not even when the state cannot be written.
func TestHiddenBundle(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	s := newStorage(m)
	for seq := 1; seq <= 2; seq++ {
		m.must("modmirror", "publish", "--to", "s3://modules/team", m.synthetic("team", 2, 1000, "-sequence", fmt.Sprint(seq)))
	}
	sequence := func(url string) float64 { return metric(t, url, `modmirror_bundle_sequence{name="team"}`) }
	_, url := m.serve("a", "s3://modules/team")
	port := freePort(t)
	m.start("modmirror", "serve", "--addr", "127.0.0.1:"+port, "--state", "/proc/nowhere", "--cache-dir", filepath.Join(m.dir, "c"), "s3://modules/team")
	stateless := "http://127.0.0.1:" + port
	eventually(t, "ready", func() bool { status, _, _, _ := get(stateless + "/readyz"); return status == 200 })
	newest := filepath.Join(s.data, "modules", "team", "team-2.tar")
	if err := os.Rename(newest, newest+".away"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(7 * time.Second)
	if sequence(url) != 2 || sequence(stateless) != 2 {
		t.Errorf("after the newest was hidden: sequence %v and %v", sequence(url), sequence(stateless))
	}
	// One that does not answer for the newest serves none of the line at a fresh start.
	os.Rename(newest+".away", newest)
	s.proxy.refuse.Store(true)
	port = freePort(t)
	p := m.start("modmirror", "serve", "--addr", "127.0.0.1:"+port, "--state", filepath.Join(m.dir, "fresh"), "s3://modules/team")
	time.Sleep(2 * time.Second)
	if status, _, _, err := get("http://127.0.0.1:" + port + "/readyz"); err == nil && status == 200 {
		t.Errorf("an older bundle is served instead of one that cannot be read:\n%s", p.out.String())
	}
}

// TestCredentialsFile: credentials in the home folder are found, although serve gives up other
// files, and the state of a fresh account is made.
func TestCredentialsFile(t *testing.T) {
	m, _, _ := published(t, 2, 1000)
	if err := errors.Join(os.Mkdir(m.dir+"/.aws", 0o700), os.WriteFile(m.dir+"/.aws/credentials", []byte("[default]\naws_access_key_id = testkey\naws_secret_access_key = testsecret\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	var env []string
	for _, e := range m.env {
		if !strings.HasPrefix(e, "AWS_ACCESS") && !strings.HasPrefix(e, "AWS_SECRET") && !strings.HasPrefix(e, "XDG_STATE") {
			env = append(env, e)
		}
	}
	m.env = env
	port := freePort(t)
	m.start("modmirror", "serve", "--addr", "127.0.0.1:"+port, "s3://modules/team")
	eventually(t, "ready", func() bool { status, _, _, _ := get("http://127.0.0.1:" + port + "/readyz"); return status == 200 })
	if list, _ := filepath.Glob(m.dir + "/.local/state/modmirror/index/*.sqlite"); len(list) != 1 {
		t.Error("the state was not written")
	}
}

// TestClientsThatLeave: fetches that nobody waits for any more are given up before their turn: no
// files and goroutines pile up.
func TestClientsThatLeave(t *testing.T) {
	m, s, _ := published(t, 600, 70_000)
	p, url := m.serve("a", "s3://modules/team")
	s.proxy.rate.Store(1000)
	for n := range 600 {
		c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", zipOf(n))
		time.Sleep(time.Millisecond)
		c.Close()
	}
	time.Sleep(2 * time.Second)
	files, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.cmd.Process.Pid))
	if goroutines := metric(t, url, "go_goroutines"); len(files) > 200 || goroutines > 300 {
		t.Errorf("%d files and %v goroutines after clients that left", len(files), goroutines)
	} else {
		t.Logf("%d files, %v goroutines", len(files), goroutines)
	}
}

// TestCacheIsBounded: the cache stays within its size, and what went comes again.
func TestCacheIsBounded(t *testing.T) {
	t.Parallel()
	m, _, _ := published(t, 7, 200_000_000)
	if out, err := m.run("modmirror", "serve", "--cache-size", "100M", "s3://modules/team"); err == nil || !strings.Contains(out, "want 1G at least") {
		t.Errorf("a cache of 100M: %v %s", err, out)
	}
	_, url := m.serve("a", "--cache-size", "1G", "s3://modules/team")
	var wg sync.WaitGroup
	for round := range 2 {
		for n := range 7 {
			wg.Go(func() {
				resp, err := http.Get(url + zipOf(n))
				if err == nil {
					_, err = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
				if err != nil {
					t.Errorf("round %d, zip %d: %v", round, n, err)
				}
			})
		}
		wg.Wait()
	}
	bytes := int64(0)
	filepath.Walk(filepath.Join(m.dir, "a", "cache"), func(_ string, st os.FileInfo, err error) error {
		if err == nil && st.Mode().IsRegular() {
			bytes += st.Size()
		}
		return nil
	})
	if bytes > 1<<30 || metric(t, url, "modmirror_cache_bytes") > 1<<30 {
		t.Errorf("%d bytes in a cache of 1G, the metric says %v", bytes, metric(t, url, "modmirror_cache_bytes"))
	}
	if out, err := m.run("modmirror", "serve", "--addr", "127.0.0.1:0", "--cache-dir", filepath.Join(m.dir, "a", "cache"), "s3://modules/team"); err == nil || !strings.Contains(out, "each server needs its own") {
		t.Errorf("two servers with one cache: %v %s", err, out)
	}
}

// TestStatic: the plain tree in a bucket works as GOPROXY as it is, with the right headers, and is
// brought up to date by what is new.
func TestStatic(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	s := newStorage(m)
	project := m.project("github.com/google/go-containerregistry@v0.22.1")
	m.must("modmirror", "sync", "-o", "team.tar", "--vulndb="+vulnDB(t, m), project)
	out := m.must("modmirror", "publish", "--static", "--to", "s3://modules/tree", "team.tar")
	t.Log(strings.TrimSpace(out))
	if out := m.must("modmirror", "publish", "--static", "--to", "s3://modules/tree", "team.tar"); !strings.Contains(out, " 0 of them written now") {
		t.Errorf("again: %s", out)
	}
	client, err := minio.New("127.0.0.1:"+s.port, &minio.Options{Creds: credentials.NewStaticV4("testkey", "testsecret", "")})
	if err != nil {
		t.Fatal(err)
	}
	if err := client.SetBucketPolicy(background, "modules", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":["s3:GetObject"],"Resource":["arn:aws:s3:::modules/*"]}]}`); err != nil {
		t.Fatal(err)
	}
	proxy := "http://127.0.0.1:" + s.port + "/modules/tree"
	for path, want := range map[string][2]string{
		"/github.com/spf13/pflag/@v/list": {"text/plain; charset=utf-8", "public, max-age=60"},
		"/sumdb/sum.golang.org/latest":    {"text/plain; charset=utf-8", "public, max-age=60"},
		"/vulndb/index/db.json":           {"application/json", "public, max-age=60"},
		"/vulndb/index/db.json.gz":        {"application/gzip", "public, max-age=60"},
		firstFile(t, m, s, ".zip"):        {"application/zip", "public, max-age=31536000, immutable"},
		firstFile(t, m, s, ".mod"):        {"text/plain; charset=utf-8", "public, max-age=31536000, immutable"},
		firstFile(t, m, s, ".info"):       {"application/json", "public, max-age=31536000, immutable"},
	} {
		status, _, header, err := get(proxy + path)
		if err != nil || status != 200 || header.Get("Content-Type") != want[0] || header.Get("Cache-Control") != want[1] {
			t.Errorf("%s: %d %v %q %q, want %q", path, status, err, header.Get("Content-Type"), header.Get("Cache-Control"), want)
		}
	}
	if out, err := m.download(project, proxy, "client"); err != nil {
		t.Errorf("go mod download all from the bucket: %v\n%s", err, errorsOf(out))
	}
	// In a folder.
	m.must("modmirror", "publish", "--static", "--to", "www", "team.tar")
	if out, err := m.download(project, "file://"+m.dir+"/www", "client2"); err != nil {
		t.Errorf("go mod download all from the folder: %v\n%s", err, errorsOf(out))
	}
	// By nginx alone, with the headers that modmirror serve has.
	_, served := m.serve("a", "team.tar")
	static := m.nginx("nginx-static.conf", "root /srv/www/go;", "root "+m.dir+"/www;")
	m.must("chmod", "-R", "a+rX", m.dir)
	tile, _ := filepath.Glob(m.dir + "/www/sumdb/sum.golang.org/tile/8/0/*/*")
	for _, path := range []string{"/github.com/spf13/pflag/@v/list", "/sumdb/sum.golang.org/latest", "/vulndb/index/db.json", "/vulndb/index/db.json.gz", "/vulndb/ID/GO-2026-0001.json",
		firstFile(t, m, s, ".zip"), firstFile(t, m, s, ".mod"), firstFile(t, m, s, ".info"), "/github.com/spf13/pflag/@latest", strings.TrimPrefix(tile[0], m.dir+"/www")} {
		status, body, header, err := get(static + path)
		_, want, wantHeader, wantErr := get(served + path)
		if err != nil || wantErr != nil || status != 200 || body != want {
			t.Errorf("%s: %d %v %v, %d bytes, want %d", path, status, err, wantErr, len(body), len(want))
		}
		for _, name := range []string{"Content-Type", "Cache-Control", "X-Content-Type-Options"} {
			if got, want := header[name], wantHeader[name]; len(got) != 1 || got[0] != want[0] {
				t.Errorf("%s: %s: %q, want %q", path, name, got, want)
			}
		}
	}
	if out, err := m.download(project, static, "client3"); err != nil {
		t.Errorf("go mod download all from nginx: %v\n%s", err, errorsOf(out))
	}
	victim := filepath.Join(m.dir, "www", firstFile(t, m, s, ".mod"))
	if err := errors.Join(os.WriteFile(victim, []byte("module changed\n"), 0o666)); err != nil {
		t.Fatal(err)
	}
	if out := m.must("modmirror", "publish", "--static", "--to", "www", "team.tar"); !strings.Contains(out, " 1 of them written now") {
		t.Errorf("after a change: %s", out)
	}
}

// vulnDB returns a small vulnerability database.
func vulnDB(t *testing.T, m *machine) string {
	t.Helper()
	dir := filepath.Join(m.dir, "vulndb")
	for name, text := range map[string]string{
		"index/db.json": `{"modified":"2026-01-01T00:00:00Z"}`, "index/modules.json": `[{"path":"example.com/x","vulns":[{"id":"GO-2026-0001","modified":"2026-01-01T00:00:00Z"}]}]`,
		"index/vulns.json":     `[{"id":"GO-2026-0001","modified":"2026-01-01T00:00:00Z"}]`,
		"ID/GO-2026-0001.json": `{"schema_version":"1.3.1","id":"GO-2026-0001","modified":"2026-01-01T00:00:00Z","published":"2026-01-01T00:00:00Z","affected":[{"package":{"name":"example.com/x","ecosystem":"Go"}}]}`,
	} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755), os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// firstFile returns the path of a file of the tree in the bucket.
func firstFile(t *testing.T, m *machine, s *storage, ext string) (path string) {
	t.Helper()
	root := filepath.Join(s.data, "modules", "tree")
	filepath.Walk(root, func(name string, st os.FileInfo, err error) error {
		if err == nil && st.Mode().IsRegular() && filepath.Ext(name) == ext && path == "" {
			path = strings.TrimPrefix(name, root)
		}
		return nil
	})
	return path
}
