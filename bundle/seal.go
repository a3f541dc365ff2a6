package bundle

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/modmirror/modmirror/bundle/media"
	"github.com/modmirror/modmirror/internal/safefile"
)

// A verified copy of an index in the state directory has a seal beside it: a file that names the
// SHA-256 of the copy, and the identity that the copy's file had before and after it was hashed in
// full. A later Open that finds the same identity takes the copy without hashing it. The last item
// of an identity, the ctime, is set by the kernel at each change of the content, the mode, the
// owner or the name, and no system call sets it to another time.
//
// A seal is compared as a whole and never parsed. It counts when nobody else could have written it,
// as the copy does. It has no MAC: whoever can write it can read every key that serve could use.
const (
	copyExt = ".sqlite"
	sealExt = ".seal"
)

// sealFile returns the name of the seal of a copy.
func sealFile(name string) string { return strings.TrimSuffix(name, copyExt) + sealExt }

const (
	// settleTries and settleWait bound how long newSeal waits for the clock of the file system to
	// go on: 25 ms. Linux stamps files with a clock that ticks each 1 to 10 ms.
	settleTries = 25
	settleWait  = time.Millisecond
)

// sealText returns the content of the seal of a copy that f is open on. It is "" where the system
// does not say when a file was changed: every Open hashes there.
func (b *Bundle) sealText(f *os.File) string {
	id, err := media.IdentityOf(f)
	if err != nil || id.Text() == "" {
		return ""
	}
	return fmt.Sprintf("modmirror seal 1\nindex sha256:%x\n%s", b.Manifest.Index, id.Text())
}

// sealed reports whether this process, or an earlier one of the same owner, has hashed the copy
// that f is open on, and nobody has changed it since.
func (b *Bundle) sealed(f *os.File) bool {
	s, err := media.OpenRegular(sealFile(f.Name()))
	if err != nil {
		return false
	}
	defer s.Close()
	if safefile.CheckFileOwner(s) != nil {
		return false
	}
	want := b.sealText(f)
	got, err := io.ReadAll(io.LimitReader(s, int64(len(want))+1))
	return err == nil && want != "" && bytes.Equal(got, []byte(want))
}

// A seal is a seal that is being made, while the copy is hashed.
type seal struct {
	file *safefile.File
	text string
}

// newSeal begins the seal of the copy that f is open on, before the copy is hashed. It returns nil
// when the copy cannot be sealed now, as in a folder that is read-only; the next Open hashes again.
//
// A change in the same tick of the file system's clock as the last one would leave the ctime as it
// is. So newSeal waits until a new file gets a later time than the copy has: every change from then
// on shows. When that is not soon, the copy is not sealed.
func (b *Bundle) newSeal(f *os.File) *seal {
	text := b.sealText(f)
	if text == "" {
		return nil
	}
	temp, err := safefile.Create(sealFile(f.Name()), 0o600)
	if err != nil {
		return nil
	}
	for range settleTries {
		if _, err := temp.WriteAt([]byte(text), 0); err != nil {
			break
		}
		if later, err := media.ChangedLater(temp.File, f); err != nil {
			break
		} else if later {
			return &seal{temp, text}
		}
		time.Sleep(settleWait)
	}
	temp.Discard()
	return nil
}

// commit gives the seal its name, if the copy has not changed since newSeal. The caller has found
// the hash of the copy to be right. An error only costs a hash at the next Open.
func (s *seal) commit(b *Bundle, f *os.File) {
	if s == nil || b.sealText(f) != s.text {
		return
	}
	if s.file.FinishNoSync() == nil { // after a crash it may be absent or empty, which no copy matches
		s.file.CommitNoSync()
	}
}

// discard removes a seal that was not committed.
func (s *seal) discard() {
	if s != nil {
		s.file.Discard()
	}
}

// hashCopy compares the hash of the copy that f is open on with that in the manifest, and seals the
// copy if keep says that a later Open may find it.
func (b *Bundle) hashCopy(f *os.File, keep bool) error {
	var s *seal
	if keep {
		s = b.newSeal(f)
		defer s.discard()
	}
	sum, err := media.Hash(f)
	if err == nil {
		err = b.checkIndexSum(sum)
	}
	if err == nil {
		s.commit(b, f)
	}
	return err
}

// rehashPiece is how many bytes RehashIndex hashes between two calls of pause.
const rehashPiece = 1 << 20

// RehashIndex hashes the index that is open again. It calls pause after each piece with the time
// that the piece took; an error of pause ends it. An index that is not the one in the manifest any
// more, as on a failing disk, is a *NotVerifiedError, and the next Open makes a new copy.
func (b *Bundle) RehashIndex(pause func(took time.Duration) error) error {
	src, err := b.Index.Content()
	if err != nil {
		return err
	}
	h := sha256.New()
	for start := time.Now(); ; start = time.Now() {
		if _, err := io.CopyN(h, src, rehashPiece); err == io.EOF {
			break
		} else if err != nil {
			return fmt.Errorf("reading the copy of the index: %w", err)
		}
		if err := pause(time.Since(start)); err != nil {
			return err
		}
	}
	if err = b.checkIndexSum([32]byte(h.Sum(nil))); err != nil && b.seal != "" {
		os.Remove(b.seal)
	}
	return err
}
