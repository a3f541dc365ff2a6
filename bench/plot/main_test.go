package main

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
)

// TestDraw checks that the SVG is XML, and that it has the points, names and labels.
func TestDraw(t *testing.T) {
	panels, err := parse("panel\tTime <of> sync\tmodules\tseconds\n" +
		"line\tsync\n1000\t10\n20000\t200\ndashes\tbound\n1000\t10\n20000\t199\n")
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	draw(&out, panels)
	for d := xml.NewDecoder(strings.NewReader(out.String())); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("%v in\n%s", err, out.String())
		}
	}
	for _, want := range []string{
		">Time &lt;of&gt; sync</text>", ">20,000</text>", ">seconds</text>", ">modules</text>", ">bound</text>",
		`d="M71.5 230.2 L328.0 44.0"`, // the last point is at the upper right corner
		"prefers-color-scheme: dark",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %s in\n%s", want, out.String())
		}
	}
	if n := strings.Count(out.String(), "<circle"); n != 2 {
		t.Errorf("%d points, want those of the line that is not dashed", n)
	}
}

// TestParse checks that other figures are refused.
func TestParse(t *testing.T) {
	for _, text := range []string{
		"", "1\t2\n", "panel\ta\tb\n", "line\tx\n", "panel\ta\tb\tc\n1\t2\n", "panel\ta\tb\tc\nline\tx\n",
		"panel\ta\tb\tc\nline\tx\n1\tNaN\n", "panel\ta\tb\tc\nline\tx\n-1\t2\n",
	} {
		if _, err := parse(text); err == nil {
			t.Errorf("%q is drawn", text)
		}
	}
}

// TestStep checks the distances of ticks.
func TestStep(t *testing.T) {
	for maximum, want := range map[float64]float64{0: 1, 1: 0.2, 20000: 5000, 7: 2, 440: 100, 0.9: 0.2, 19.9: 5} {
		n := 5
		if maximum == 20000 {
			n = 4
		}
		if got := step(maximum, n); got != want {
			t.Errorf("step(%v) = %v, want %v", maximum, got, want)
		}
	}
}
