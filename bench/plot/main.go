// Command plot draws panels of lines as one SVG, which is readable on light and dark pages.
//
//	plot <FIGURES >FILE.svg
//
// FIGURES has lines of fields with tabs between them:
//
//	panel   TITLE   LABEL OF X   LABEL OF Y
//	line    NAME              begins a line of the panel
//	dashes  NAME              begins a dashed line, of what is only computed
//	X       Y                 a point of the line
//
// Both axes of a panel are linear and begin at zero.
package main

import (
	"bufio"
	"cmp"
	"fmt"
	"html"
	"io"
	"log"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("plot: ")
	text, err := io.ReadAll(os.Stdin)
	if err != nil {
		log.Fatal(err)
	}
	panels, err := parse(string(text))
	if err != nil {
		log.Fatal(err)
	}
	w := bufio.NewWriter(os.Stdout)
	draw(w, panels)
	if err := w.Flush(); err != nil {
		log.Fatal(err)
	}
}

// A panel is one chart.
type panel struct {
	title, x, y string
	lines       []line
}

// A line is a series of points, in the order of x.
type line struct {
	name   string
	dashed bool
	points []point
}

type point struct{ x, y float64 }

// parse reads figures.
func parse(text string) ([]panel, error) {
	var panels []panel
	for i, s := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		f := strings.Split(s, "\t")
		var last *panel
		if len(panels) > 0 {
			last = &panels[len(panels)-1]
		}
		switch {
		case f[0] == "panel" && len(f) == 4:
			panels = append(panels, panel{title: f[1], x: f[2], y: f[3]})
		case (f[0] == "line" || f[0] == "dashes") && len(f) == 2 && last != nil:
			last.lines = append(last.lines, line{name: f[1], dashed: f[0] == "dashes"})
		case len(f) == 2 && last != nil && len(last.lines) > 0:
			x, errX := strconv.ParseFloat(f[0], 64)
			y, errY := strconv.ParseFloat(f[1], 64)
			if errX != nil || errY != nil || !(x >= 0 && x < 1e15 && y >= 0 && y < 1e15) {
				return nil, fmt.Errorf("line %d: %q is no point of numbers that are not negative", i+1, s)
			}
			l := &last.lines[len(last.lines)-1]
			l.points = append(l.points, point{x, y})
		default:
			return nil, fmt.Errorf("line %d: %q is neither panel, line, dashes nor a point of a line", i+1, s)
		}
	}
	if len(panels) == 0 {
		return nil, fmt.Errorf("no panel")
	}
	for _, p := range panels {
		for _, l := range p.lines {
			if len(l.points) == 0 {
				return nil, fmt.Errorf("%s: the line %s has no points", p.title, l.name)
			}
		}
	}
	return panels, nil
}

// Sizes in pixels. The margins of a panel hold the labels of its axes and, on the right, the names
// of its lines.
const (
	across         = 2
	panelW, panelH = 420, 290
	left, right    = 58, 92
	top, bottom    = 44, 50
	plotW, plotH   = panelW - left - right, panelH - top - bottom
	labelH         = 15 // least distance of the names of lines
	ticksX, ticksY = 4, 5
	markerR        = 3.5
)

// style has the colors of both kinds of pages. The SVG has no background of its own.
const style = `
text { font: 12px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #57606a }
.title { font-weight: 600; font-size: 14px; fill: #1f2328 }
.grid { stroke: #d0d7de; stroke-width: 1 }
.axis { stroke: #8c959f; stroke-width: 1 }
.line { fill: none; stroke-width: 2; stroke-linejoin: round }
.dashed { stroke-dasharray: 5 4 }
.c0 { stroke: #0969da } .f0 { fill: #0969da }
.c1 { stroke: #bc4c00 } .f1 { fill: #bc4c00 }
.c2 { stroke: #6e7781 } .f2 { fill: #6e7781 }
@media (prefers-color-scheme: dark) {
text { fill: #9198a1 }
.title { fill: #f0f6fc }
.grid { stroke: #30363d }
.axis { stroke: #656c76 }
.c0 { stroke: #4493f8 } .f0 { fill: #4493f8 }
.c1 { stroke: #f0883e } .f1 { fill: #f0883e }
.c2 { stroke: #9198a1 } .f2 { fill: #9198a1 }
}
`

// draw writes the SVG.
func draw(w io.Writer, panels []panel) {
	rows := (len(panels) + across - 1) / across
	width, height := across*panelW, rows*panelH
	fmt.Fprintf(w, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img">`,
		width, height, width, height)
	var titles []string
	for _, p := range panels {
		titles = append(titles, p.title)
	}
	fmt.Fprintf(w, "\n<title>%s</title>\n<style>%s</style>\n", html.EscapeString(strings.Join(titles, "; ")), style)
	for i, p := range panels {
		fmt.Fprintf(w, "<g transform=\"translate(%d %d)\">\n", i%across*panelW, i/across*panelH)
		p.draw(w)
		fmt.Fprintln(w, "</g>")
	}
	fmt.Fprintln(w, "</svg>")
}

// draw writes a panel whose corner is at the origin.
func (p *panel) draw(w io.Writer) {
	var maxX, maxY float64
	for _, l := range p.lines {
		for _, pt := range l.points {
			maxX, maxY = max(maxX, pt.x), max(maxY, pt.y)
		}
	}
	stepX, stepY := step(maxX, ticksX), step(maxY, ticksY)
	endX, endY := math.Ceil(maxX/stepX-1e-9)*stepX, math.Ceil(maxY/stepY-1e-9)*stepY
	px := func(x float64) float64 { return left + x/endX*plotW }
	py := func(y float64) float64 { return top + plotH - y/endY*plotH }

	text(w, "title", point{left, 20}, "start", p.title)
	for y := 0.0; y <= endY+stepY/2; y += stepY {
		class := "grid"
		if y == 0 {
			class = "axis"
		}
		rule(w, class, point{left, py(y)}, point{left + plotW, py(y)})
		text(w, "", point{left - 8, py(y) + 4}, "end", number(y))
	}
	for x := 0.0; x <= endX+stepX/2; x += stepX {
		rule(w, "axis", point{px(x), top + plotH}, point{px(x), top + plotH + 4})
		text(w, "", point{px(x), top + plotH + 18}, "middle", number(x))
	}
	text(w, "", point{left + plotW/2, top + plotH + 38}, "middle", p.x)
	text(w, "", point{left, 36}, "start", p.y)

	type name struct {
		text  string
		color int
		y     float64
	}
	var names []name
	for i, l := range p.lines {
		color := i % 3
		var path strings.Builder
		for k, pt := range l.points {
			fmt.Fprintf(&path, "%s%.1f %.1f", map[bool]string{true: "M", false: " L"}[k == 0], px(pt.x), py(pt.y))
		}
		dashed := ""
		if l.dashed {
			dashed = " dashed"
		}
		fmt.Fprintf(w, "<path class=\"line c%d%s\" d=\"%s\"/>\n", color, dashed, path.String())
		if !l.dashed {
			for _, pt := range l.points {
				fmt.Fprintf(w, "<circle class=\"f%d\" cx=\"%.1f\" cy=\"%.1f\" r=\"%.1f\"/>\n",
					color, px(pt.x), py(pt.y), markerR)
			}
		}
		names = append(names, name{l.name, color, py(l.points[len(l.points)-1].y) + 4})
	}
	// Names stand at the ends of their lines, but not on each other.
	slices.SortStableFunc(names, func(a, b name) int { return cmp.Compare(a.y, b.y) })
	for i := 1; i < len(names); i++ {
		names[i].y = max(names[i].y, names[i-1].y+labelH)
	}
	for _, n := range names {
		text(w, "f"+strconv.Itoa(n.color), point{left + plotW + 8, n.y}, "start", n.text)
	}
}

// text writes a text. The anchor says which part of it is at the point, in pixels.
func text(w io.Writer, class string, at point, anchor, s string) {
	fmt.Fprintf(w, "<text class=\"%s\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">%s</text>\n",
		class, at.x, at.y, anchor, html.EscapeString(s))
}

// rule writes a straight line.
func rule(w io.Writer, class string, from, to point) {
	fmt.Fprintf(w, "<line class=\"%s\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>\n",
		class, from.x, from.y, to.x, to.y)
}

// step returns a round distance of ticks such that about n of them reach a maximum.
func step(maximum float64, n int) float64 {
	if maximum <= 0 {
		return 1
	}
	raw := maximum / float64(n)
	unit := math.Pow(10, math.Floor(math.Log10(raw)))
	for _, k := range []float64{1, 2, 2.5, 5} {
		if raw <= k*unit*1.0001 {
			return k * unit
		}
	}
	return 10 * unit
}

// number returns a tick's text, with commas between thousands.
func number(v float64) string {
	s := strconv.FormatFloat(math.Round(v*1e6)/1e6, 'f', -1, 64)
	whole, rest, _ := strings.Cut(s, ".")
	for i := len(whole) - 3; i > 0; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	if rest != "" {
		return whole + "." + rest
	}
	return whole
}
