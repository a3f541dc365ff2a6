// Package retry repeats what fails for a passing reason, with growing waits between the attempts.
//
// It is written here, and not taken from github.com/cenkalti/backoff/v5 (MIT, 450 lines, kept up),
// because that package would need more code to wait as modmirror does: its RetryAfterError carries
// no error, so the answer of the last attempt would have to travel beside it; a RetryAfterError
// also sets the growing wait back to its start; and its limit of 15 minutes in all would have to
// be turned off.
package retry

import (
	"context"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"
)

// Never is the wait that an attempt returns when no further attempt can help.
const Never time.Duration = -1

// A Policy says how often to try, and how long to wait in between.
type Policy struct {
	Tries int           // attempts in all
	First time.Duration // wait after the first failure; it doubles with each failure
	Max   time.Duration // bound of the doubling
}

// Do calls try until it succeeds, returns Never, or has been called p.Tries times, and returns its
// last error. It returns the error of ctx when ctx is done during a wait.
//
// The first result of try is the wait that it asks for, for instance that of a Retry-After header.
// With 0 the wait is the policy's, times a random factor between 0.5 and 1.5, so that many clients
// of one server do not come back at the same time.
func (p Policy) Do(ctx context.Context, try func() (time.Duration, error)) error {
	grown := p.First
	for n := 1; ; n++ {
		wait, err := try()
		if err == nil || wait < 0 || n >= p.Tries || ctx.Err() != nil {
			return err
		}
		if wait == 0 {
			wait = grown/2 + rand.N(grown)
			grown = min(2*grown, p.Max)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}

// After returns the wait that the value of a Retry-After header asks for, in seconds or as a date
// (RFC 9110, section 10.2.3), but at most limit. It returns 0 for other values and for the past.
func After(value string, limit time.Duration) time.Duration {
	var wait time.Duration
	if n, err := strconv.Atoi(value); err == nil {
		wait = time.Duration(min(n, int(limit/time.Second))) * time.Second
	} else if at, err := http.ParseTime(value); err == nil {
		wait = time.Until(at)
	}
	return min(max(wait, 0), limit)
}
