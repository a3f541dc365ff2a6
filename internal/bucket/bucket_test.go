package bucket

import (
	"bytes"
	"context"
	"crypto/md5"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/minio/minio-go/v7"
	"github.com/modmirror/modmirror/bundle/media"
)

// open returns a bucket whose storage is a handler.
func open(t *testing.T, storage http.HandlerFunc) *Bucket {
	t.Helper()
	srv := httptest.NewServer(storage)
	t.Cleanup(srv.Close)
	t.Setenv("AWS_ACCESS_KEY_ID", "id")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	t.Setenv("AWS_REGION", "us-east-1")
	b, err := Open("s3://bucket/prefix", srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestNames(t *testing.T) {
	for name, ok := range map[string]bool{
		"s3://bucket": true, "s3://bucket/a/b": true, "s3://bucket/": true, "s3://": false, "s3://bucket/../x": false,
		"s3://bucket/a//b": false, "s3://user@bucket": false, "s3://bucket?x": false, "s3://B": false, "bucket": false,
	} {
		if _, err := Open(name, "http://127.0.0.1:1"); (err == nil) != ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, endpoint := range []string{"127.0.0.1:9000", "ftp://x", "http://", "http://x/path"} {
		if _, err := Open("s3://bucket", endpoint); err == nil {
			t.Errorf("endpoint %s was accepted", endpoint)
		}
	}
}

// TestErrors has storage that answers with every sort of error: each has its type, and Failing
// tells only of those that are about the storage.
func TestErrors(t *testing.T) {
	for _, test := range []struct {
		status  int
		code    string
		is      error // that it wraps
		gone    bool  // it is an *media.UnavailableError
		denied  bool
		failing bool
	}{
		{404, "NoSuchKey", fs.ErrNotExist, false, false, false},
		{412, "PreconditionFailed", ErrChanged, false, false, false},
		{400, "InvalidArgument", nil, false, false, false},
		{403, "AccessDenied", nil, true, true, true},
		{404, "NoSuchBucket", nil, true, true, true},
		{429, "SlowDown", nil, true, false, true},
		{503, "SlowDown", nil, true, false, true},
	} {
		t.Run(fmt.Sprint(test.status, test.code), func(t *testing.T) {
			b := open(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "application/xml")
				w.WriteHeader(test.status)
				fmt.Fprintf(w, "<Error><Code>%s</Code><Message>no</Message></Error>", test.code)
			})
			body, _, _, err := b.core.GetObject(t.Context(), b.name, b.prefix+"x", minio.GetObjectOptions{})
			if err == nil {
				body.Close()
			}
			err = b.done("reading x", err)
			if err == nil || test.is != nil && !errors.Is(err, test.is) || !strings.Contains(err.Error(), "reading x (s3://bucket/prefix)") {
				t.Errorf("%v, want one that wraps %v", err, test.is)
			}
			gone, ok := errors.AsType[*media.UnavailableError](err)
			if ok != test.gone || ok && gone.Denied != test.denied {
				t.Errorf("%v: unavailable %v, %+v", err, ok, gone)
			}
			if _, failing := b.Failing(); (failing != nil) != test.failing {
				t.Errorf("Failing: %v", failing)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	b := open(t, func(http.ResponseWriter, *http.Request) {})
	if _, err := b.Stat(ctx, "x"); !errors.Is(err, context.Canceled) {
		t.Errorf("a caller that has gone: %v", err)
	}
	if _, failing := b.Failing(); failing != nil {
		t.Errorf("a caller that has gone makes the storage fail: %v", failing)
	}
}

// TestReadContinues breaks the connection again and again: reading continues where it stopped, of
// the same object.
func TestReadContinues(t *testing.T) {
	content := bytes.Repeat([]byte("0123456789"), 5000)
	var asked atomic.Int64
	b := open(t, func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if r.URL.Path != "/bucket/prefix/x" || r.Header.Get("If-Match") != `"etag"` {
			t.Errorf("%s, If-Match %s", r.URL.Path, r.Header.Get("If-Match"))
		}
		var from, to int
		if _, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &from, &to); err != nil {
			t.Errorf("Range %s", r.Header.Get("Range"))
			return
		}
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, to, len(content)))
		w.Header().Set("Content-Length", fmt.Sprint(to+1-from))
		w.Header().Set("ETag", `"etag"`)
		w.Header().Set("Last-Modified", "Thu, 02 Jan 2020 03:04:05 GMT")
		w.WriteHeader(http.StatusPartialContent)
		w.Write(content[from:min(to+1, from+20_000)])
		if to+1 > from+20_000 {
			panic(http.ErrAbortHandler)
		}
	})
	o := &Object{In: b, Name: "x", Size: int64(len(content)), ETag: "etag"}
	got := make([]byte, len(content)-7)
	if n, err := o.ReadAt(t.Context(), got, 7); err != nil || !bytes.Equal(got, content[7:]) {
		t.Errorf("%d bytes, %v", n, err)
	}
	if n := asked.Load(); n != 3 {
		t.Errorf("%d requests, want 3", n)
	}
	if n, err := o.ReadAt(t.Context(), make([]byte, 10), o.Size-4); n != 4 || err != io.EOF {
		t.Errorf("over the end: %d, %v", n, err)
	}
	if n, err := o.ReadAt(t.Context(), make([]byte, 10), o.Size); n != 0 || err != io.EOF {
		t.Errorf("behind the end: %d, %v", n, err)
	}
}

// TestETag: the ETag of an object in parts is made of the MD5 of its parts.
func TestETag(t *testing.T) {
	small := []byte("hello")
	if got, err := ETag(bytes.NewReader(small), 5); err != nil || got != fmt.Sprintf("%x", md5.Sum(small)) {
		t.Errorf("%s, %v", got, err)
	}
	large := make([]byte, partSize+1)
	sums := [][md5.Size]byte{md5.Sum(large[:partSize]), md5.Sum(large[partSize:])}
	got, err := ETag(bytes.NewReader(large), partSize+1)
	if want := etagOfParts(sums); err != nil || got != want || !strings.HasSuffix(got, "-2") {
		t.Errorf("%s, %v, want %s", got, err, want)
	}
	for size, want := range map[int64]int64{0: partSize, partSize * maxParts: partSize, partSize*maxParts + 1: 2 * partSize} {
		if got := partSizeOf(size); got != want {
			t.Errorf("parts of %d bytes have %d, want %d", size, got, want)
		}
	}
}

// TestSmallUpload: a small object goes with its MD5, and again when the storage is busy.
func TestSmallUpload(t *testing.T) {
	var tries atomic.Int64
	b := open(t, func(w http.ResponseWriter, r *http.Request) {
		data, _ := io.ReadAll(r.Body)
		if r.Method != "PUT" || r.URL.Path != "/bucket/prefix/x" || !strings.Contains(string(data), "\r\nhello\r\n") { // with chunk signatures
			t.Errorf("%s %s %q", r.Method, r.URL.Path, data)
		}
		if r.Header.Get("Content-Md5") != "XUFAKrxLKna5cZ2REBfFkg==" || r.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%v", r.Header)
		}
		if tries.Add(1) == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("ETag", `"5d41402abc4b2a76b9719d911017c592"`)
	})
	sent := int64(0)
	meta := Meta{ContentType: "text/plain", CacheControl: "no-store"}
	etag, err := b.Upload(t.Context(), "x", io.NewSectionReader(strings.NewReader("hello"), 0, 5), meta, func(n int64) { sent += n })
	if err != nil || etag != "5d41402abc4b2a76b9719d911017c592" || sent != 5 || tries.Load() != 2 {
		t.Errorf("%s, %v after %d tries, %d bytes", etag, err, tries.Load(), sent)
	}
}
