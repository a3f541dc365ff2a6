package main

import (
	"fmt"

	"github.com/dustin/go-humanize/english"
)

// number returns a count with its noun: 1 file, 2 files.
func number[T ~int | ~int64](n T, noun string) string {
	return fmt.Sprintf("%d %s", n, english.PluralWord(int(n), noun, ""))
}

// bytesText returns a number of bytes for people. It keeps a decimal more than humanize.IBytes:
// whether a bundle fits on a disk depends on it.
func bytesText(n int64) string {
	switch {
	case n < 1<<10:
		return fmt.Sprintf("%d B", n)
	case n < 1<<20:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	case n < 1<<30:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%.2f GiB", float64(n)/(1<<30))
}
