// Package bucket reads and writes objects of S3-compatible storage, below a prefix of a bucket.
//
// When a connection breaks, reading continues where it stopped, as long as the object has the same
// ETag. Nothing is verified here. Callers must compare what they read with a hash that they trust.
package bucket

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/minio/minio-go/v7/pkg/s3utils"
	"github.com/modmirror/modmirror/bundle/media"
)

const (
	// headerTimeout is how long a server may take to begin an answer, and stallTimeout how long it
	// may send nothing in the middle of a body.
	headerTimeout = 20 * time.Second
	stallTimeout  = 20 * time.Second

	// retryTime is how long a reader tries again without getting a byte. When the storage has
	// failed for longer already it tries once.
	retryTime = 10 * time.Second

	// maxObjects is how many objects a prefix may have.
	maxObjects = 100_000
)

// A Bucket is a prefix of a bucket. It is safe for concurrent use.
type Bucket struct {
	core   *minio.Core
	name   string
	prefix string // "" or ending with a slash
	url    string

	mu      sync.Mutex // guards what follows
	failing error      // of the last request; nil when it was answered
	since   time.Time  // when the first of the failing requests failed
}

// IsURL reports whether a name is of a bucket (s3://…) and not of a file.
func IsURL(name string) bool { return strings.HasPrefix(name, "s3://") }

// Open returns the bucket and prefix of s3://BUCKET/PREFIX. It makes no request.
//
// endpoint is a URL such as https://minio.example:9000. For "" it is $AWS_ENDPOINT_URL_S3, else
// $AWS_ENDPOINT_URL, else Amazon's. Credentials come from minio-go's chain: AWS_ACCESS_KEY_ID and
// the like, MINIO_ROOT_USER and the like, ~/.aws/credentials, ~/.mc/config.json, and the machine's
// role. The region is $AWS_REGION, else $AWS_DEFAULT_REGION, else the bucket's.
func Open(name, endpoint string) (*Bucket, error) {
	u, err := url.Parse(name)
	if err != nil || u.Scheme != "s3" || u.Host == "" || u.RawQuery != "" || u.User != nil {
		return nil, fmt.Errorf("%s: want s3://BUCKET/PREFIX", name)
	}
	b := &Bucket{name: u.Host, prefix: strings.Trim(u.Path, "/"), url: strings.TrimSuffix(name, "/")}
	if err := s3utils.CheckValidBucketName(b.name); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if b.prefix != "" {
		if path.Clean(b.prefix) != b.prefix || strings.HasPrefix(b.prefix, "..") {
			return nil, fmt.Errorf("%s: a prefix has no .. in it", name)
		}
		b.prefix += "/"
	}
	endpoint = cmp.Or(endpoint, os.Getenv("AWS_ENDPOINT_URL_S3"), os.Getenv("AWS_ENDPOINT_URL"),
		"https://s3.amazonaws.com")
	e, err := url.Parse(endpoint)
	if err != nil || e.Scheme != "http" && e.Scheme != "https" || e.Host == "" || strings.Trim(e.Path, "/") != "" {
		return nil, fmt.Errorf("%s is no endpoint: want https://HOST or http://HOST:PORT", endpoint)
	}
	tr := http.DefaultTransport.(*http.Transport).Clone()
	tr.ResponseHeaderTimeout = headerTimeout
	tr.MaxIdleConnsPerHost = 64
	tr.DisableCompression = true
	b.core, err = minio.NewCore(e.Host, &minio.Options{
		Creds: credentials.NewChainCredentials([]credentials.Provider{
			&credentials.EnvAWS{}, &credentials.EnvMinio{}, &credentials.FileAWSCredentials{}, &credentials.FileMinioClient{},
			&credentials.IAM{Client: &http.Client{Timeout: 5 * time.Second}},
		}),
		Region: cmp.Or(os.Getenv("AWS_REGION"), os.Getenv("AWS_DEFAULT_REGION")),
		Secure: e.Scheme == "https", Transport: bounded{tr}, MaxRetries: 1,
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return b, nil
}

// CredentialFiles returns the files and folders that may have credentials. They are read at the
// first request, and later.
func CredentialFiles() []string {
	var files []string
	for _, name := range []string{
		"AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE", "AWS_WEB_IDENTITY_TOKEN_FILE",
		"AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "MINIO_SHARED_CREDENTIALS_FILE",
	} {
		if file := os.Getenv(name); file != "" {
			files = append(files, file)
		}
	}
	if home, err := os.UserHomeDir(); err == nil {
		files = append(files, filepath.Join(home, ".aws", "credentials"), filepath.Join(home, ".mc", "config.json"))
	}
	return files
}

// maxAnswer is the largest answer in bytes, except for ranges of objects: minio-go reads answers
// whole.
const maxAnswer = 8 << 20

// bounded is a transport that fails answers larger than maxAnswer.
type bounded struct{ http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := b.RoundTripper.RoundTrip(r)
	if err == nil && (resp.StatusCode != http.StatusPartialContent || r.Header.Get("Range") == "") {
		resp.Body = struct {
			io.Reader
			io.Closer
		}{&atMost{resp.Body, maxAnswer}, resp.Body}
	}
	return resp, err
}

// atMost reads n bytes, and fails after them.
type atMost struct {
	r io.Reader
	n int64
}

// Read implements io.Reader.
func (a *atMost) Read(p []byte) (int, error) {
	if a.n < 0 {
		return 0, fmt.Errorf("the answer has more than %d bytes", maxAnswer)
	}
	n, err := a.r.Read(p[:min(int64(len(p)), a.n+1)])
	a.n -= int64(n)
	return n, err
}

// String returns the URL.
func (b *Bucket) String() string { return b.url }

// Failing returns the error of the last request, nil when it was answered, and since when requests
// fail.
func (b *Bucket) Failing() (time.Time, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.since, b.failing
}

// ErrChanged is wrapped by the error about an object that was replaced after List or Stat.
var ErrChanged = errors.New("the object was replaced since it was listed")

// done notes the end of a request for Failing. It returns an *media.UnavailableError for a storage
// that gives no usable answer, and an error that wraps fs.ErrNotExist or ErrChanged for an object.
func (b *Bucket) done(what string, err error) error {
	what = fmt.Sprintf("%s (%s)", what, b.url)
	answer, is := errors.AsType[minio.ErrorResponse](err)
	answered := err == nil || is && isAnswer(answer)
	denied := answered && err != nil && isDenial(answer)
	answered = answered && !denied
	if errors.Is(err, context.Canceled) {
		return err
	}
	b.note(err, answered)
	switch {
	case err == nil:
		return nil
	case !answered:
		if answer.Code != "" {
			err = fmt.Errorf("%w (%s)", err, answer.Code)
		}
		return &media.UnavailableError{What: what, Err: err, Denied: denied}
	case answer.StatusCode == http.StatusNotFound:
		return fmt.Errorf("%s: %w (%s)", what, fs.ErrNotExist, answer.Code)
	case answer.StatusCode == http.StatusPreconditionFailed:
		return fmt.Errorf("%s: %w", what, ErrChanged)
	}
	return fmt.Errorf("%s: %w (%s)", what, err, answer.Code)
}

// isAnswer reports whether an error of a request tells of the object, and not of the storage's
// state.
func isAnswer(e minio.ErrorResponse) bool {
	return e.StatusCode >= 400 && e.StatusCode < 500 &&
		e.StatusCode != http.StatusTooManyRequests && e.StatusCode != http.StatusRequestTimeout
}

// isDenial reports whether an error of a request says that access is denied, or that there is no
// bucket.
func isDenial(e minio.ErrorResponse) bool {
	return e.StatusCode == http.StatusUnauthorized || e.StatusCode == http.StatusForbidden ||
		e.Code == "NoSuchBucket" || strings.HasPrefix(e.Code, "XAdmin")
}

// note notes the end of a request for Failing.
func (b *Bucket) note(err error, answered bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case answered:
		b.failing = nil
	case b.failing == nil:
		b.failing, b.since = err, time.Now()
	default:
		b.failing = err
	}
}

// An Object is an object as List or Stat found it.
type Object struct {
	In   *Bucket
	Name string // below the prefix
	Size int64  // bytes
	ETag string // without quotes
}

// String returns the URL.
func (o *Object) String() string { return o.In.url + "/" + o.Name }

// List returns the objects directly below the prefix, by name.
func (b *Bucket) List(ctx context.Context) ([]*Object, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*headerTimeout)
	defer cancel()
	var list []*Object
	for o := range b.core.Client.ListObjects(ctx, b.name, minio.ListObjectsOptions{Prefix: b.prefix}) {
		if o.Err != nil {
			return nil, b.done("listing", o.Err)
		}
		name := strings.TrimPrefix(o.Key, b.prefix)
		if name == "" || strings.Contains(name, "/") {
			continue
		}
		if len(list) == maxObjects {
			return nil, fmt.Errorf("%s: more than %d objects", b.url, maxObjects)
		}
		list = append(list, &Object{In: b, Name: name, Size: o.Size, ETag: strings.Trim(o.ETag, `"`)})
	}
	return list, b.done("listing", ctx.Err())
}

// Stat returns an object. The error wraps fs.ErrNotExist when there is none.
func (b *Bucket) Stat(ctx context.Context, name string) (*Object, error) {
	o, err := b.core.Client.StatObject(ctx, b.name, b.prefix+name, minio.StatObjectOptions{})
	if err := b.done("looking for "+name, err); err != nil {
		return nil, err
	}
	return &Object{In: b, Name: name, Size: o.Size, ETag: strings.Trim(o.ETag, `"`)}, nil
}

// NewReader returns a reader of size bytes from an offset. It makes its first request at the first
// Read. After a failure it continues where it stopped. It fails with ErrChanged when the object was
// replaced.
func (o *Object) NewReader(ctx context.Context, offset, size int64) io.ReadCloser {
	ctx, cancel := context.WithCancel(ctx)
	return &reader{o: o, ctx: ctx, cancel: cancel, at: offset, left: size, progress: time.Now()}
}

// ReadAt reads a range of an object, as io.ReaderAt.
func (o *Object) ReadAt(ctx context.Context, p []byte, offset int64) (int, error) {
	if offset >= o.Size {
		return 0, io.EOF
	}
	short := int64(len(p)) > o.Size-offset
	if short {
		p = p[:o.Size-offset]
	}
	r := o.NewReader(ctx, offset, int64(len(p)))
	defer r.Close()
	n, err := io.ReadFull(r, p)
	if err == nil && short {
		err = io.EOF
	}
	return n, err
}

// A reader reads a range of an object. One goroutine uses it.
type reader struct {
	o        *Object
	ctx      context.Context
	cancel   func()
	at, left int64         // the next byte, and how many there are from it on
	body     io.ReadCloser // of the answer; nil between requests
	stall    *time.Timer   // cancels the request
	progress time.Time     // when the last byte came
	failures int           // since then
}

// Read implements io.Reader. It tries again after failures.
func (r *reader) Read(p []byte) (int, error) {
	for r.left > 0 {
		n, err := r.read(p[:min(int64(len(p)), r.left)])
		r.at += int64(n)
		r.left -= int64(n)
		if n > 0 {
			r.progress, r.failures = time.Now(), 0
			return n, nil
		}
		if err == nil {
			continue
		}
		gone, again := errors.AsType[*media.UnavailableError](err)
		again = again && !gone.Denied
		if since, failing := r.o.In.Failing(); failing != nil && time.Since(since) > retryTime {
			again = false
		}
		if !again || time.Since(r.progress) > retryTime || r.ctx.Err() != nil {
			return 0, err
		}
		r.failures++
		select {
		case <-time.After(min(50*time.Millisecond<<r.failures, time.Second)):
		case <-r.ctx.Done():
			return 0, r.ctx.Err()
		}
	}
	return 0, io.EOF
}

// read reads from the body, after a request for it when there is none. An error ends the body.
func (r *reader) read(p []byte) (n int, err error) {
	defer func() {
		if err != nil {
			r.end()
		}
	}()
	what := "reading " + r.o.Name
	if r.body == nil {
		opts := minio.GetObjectOptions{}
		if err := opts.SetRange(r.at, r.at+r.left-1); err != nil {
			return 0, err
		}
		if r.o.ETag != "" {
			if err := opts.SetMatchETag(r.o.ETag); err != nil {
				return 0, err
			}
		}
		ctx, cancel := context.WithCancelCause(r.ctx)
		r.stall = time.AfterFunc(2*headerTimeout, func() { cancel(errStalled) })
		body, _, header, err := r.o.In.core.GetObject(ctx, r.o.In.name, r.o.In.prefix+r.o.Name, opts)
		if err := r.o.In.done(what, err); err != nil {
			cancel(nil)
			return 0, err
		}
		r.body = &closer{body, cancel}
		if got := header.Get("Content-Range"); got != "" && !strings.HasPrefix(got, fmt.Sprintf("bytes %d-", r.at)) {
			return 0, fmt.Errorf("%s: asked for byte %d, got %s", what, r.at, got)
		} else if got == "" && r.at > 0 {
			return 0, fmt.Errorf("%s: the storage does not serve ranges", what)
		}
	}
	r.stall.Reset(stallTimeout)
	n, err = r.body.Read(p)
	if n > 0 {
		return n, nil
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if err != nil && r.ctx.Err() == nil {
		err = r.o.In.done(what, err)
		if err == nil || errors.Is(err, context.Canceled) { // it stalled
			err = &media.UnavailableError{What: what, Err: errStalled}
		}
	}
	return 0, err
}

var errStalled = errors.New("the storage sends nothing")

// end closes the body, if there is one.
func (r *reader) end() {
	if r.stall != nil {
		r.stall.Stop()
	}
	if r.body != nil {
		r.body.Close()
		r.body = nil
	}
}

// Close closes the reader.
func (r *reader) Close() error {
	r.end()
	r.cancel()
	return nil
}

// A closer cancels a request before it closes the body, so that the rest of the body is not read.
type closer struct {
	io.ReadCloser
	cancel context.CancelCauseFunc
}

// Close implements io.Closer.
func (c *closer) Close() error {
	c.cancel(nil)
	return c.ReadCloser.Close()
}
