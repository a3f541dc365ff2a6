//go:build unix && !race

package vectors

// raced is explained in race_test.go.
const raced = false
