package bundle

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"
)

// A failing writer fails after it has taken some writes.
type failing struct {
	left int
	err  error
}

func (f *failing) Write(p []byte) (int, error) {
	if f.left--; f.left < 0 {
		return 0, f.err
	}
	return len(p), nil
}

// TestBehind writes pieces of all lengths, and compares the whole.
func TestBehind(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var got, want bytes.Buffer
	b := newBehind(&got)
	for want.Len() < 8*behindSize {
		p := make([]byte, r.IntN(2*behindSize))
		for i := range p {
			p[i] = byte(want.Len() + i)
		}
		want.Write(p)
		if n, err := b.Write(p); n != len(p) || err != nil {
			t.Fatalf("%d, %v", n, err)
		}
		clear(p) // the caller may use it again
	}
	if err := b.Close(); err != nil || !bytes.Equal(got.Bytes(), want.Bytes()) {
		t.Errorf("%d of %d bytes, %v", got.Len(), want.Len(), err)
	}
}

// TestBehindError reports the error of any write, to Write or to Close, and blocks nobody.
func TestBehindError(t *testing.T) {
	full := errors.New("full")
	for left := range 2 * behindPieces {
		b := newBehind(&failing{left, full})
		var err error
		for range 2 * behindPieces {
			if _, err = b.Write(make([]byte, behindSize)); err != nil {
				break
			}
		}
		if closed := b.Close(); closed != full || err != nil && err != full {
			t.Errorf("after %d pieces: %v, then %v", left, err, closed)
		}
		if _, err := (&behind{err: full}).Write([]byte("x")); err != full {
			t.Errorf("behind an error: %v", err)
		}
	}
}
