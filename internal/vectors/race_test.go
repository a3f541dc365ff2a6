//go:build unix && race

package vectors

// raced says that the race detector is in these tests, which makes each measured command slow and
// its memory that of another program: a few are run.
const raced = true
