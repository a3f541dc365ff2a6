package web

import (
	"fmt"
	"slices"
)

// A graph is a drawing of a module between those that require it, on the left, and those that it
// requires, on the right. Lengths are in pixels.
type graph struct {
	Width, Height int
	Nodes         []graphNode
	Edges         []graphEdge
}

// A graphNode is a module in a graph, or the number of those that are not drawn.
type graphNode struct {
	X, Y, Width, Height int
	Text, Href, Class   string
}

// TextX returns where the text begins.
func (n *graphNode) TextX() int { return n.X + 8 }

// TextY returns the line on which the text stands.
func (n *graphNode) TextY() int { return n.Y + n.Height - 9 }

// A graphEdge is a line between two nodes.
type graphEdge struct{ X1, Y1, X2, Y2 int }

// Mid returns where the line bends.
func (e *graphEdge) Mid() int { return (e.X1 + e.X2) / 2 }

const (
	// maxNodes is how many modules a graph has on each side.
	maxNodes = 12

	// maxNodeText is the longest text of a node in characters.
	maxNodeText = 36

	nodeWidth, nodeHeight = 270, 28
	nodeGap, columnGap    = 8, 60
)

// Graph returns the graph around the module, nil when there is nothing but it.
func (u *unit) Graph(base string) *graph {
	if len(u.Requires)+len(u.Required) == 0 {
		return nil
	}
	side := func(list []requirement) (nodes []graphNode) {
		seen := make(map[string]bool)
		more := 0
		for _, r := range list {
			if seen[r.Path] {
				continue
			}
			seen[r.Path] = true
			if len(nodes) == maxNodes {
				more++
				continue
			}
			n := graphNode{Text: fromRight(r.Path)}
			if r.Carried {
				n.Href = base + "/" + r.Path
			}
			nodes = append(nodes, n)
		}
		if more > 0 {
			nodes = append(nodes, graphNode{Text: fmt.Sprintf("and %d more", more)})
		}
		return nodes
	}
	direct := slices.Clone(u.Requires)
	slices.SortStableFunc(direct, func(a, b requirement) int {
		switch {
		case a.Indirect == b.Indirect:
			return 0
		case b.Indirect:
			return -1
		}
		return 1
	})
	left, right := side(u.Required), side(direct)
	rows := max(len(left), len(right))
	g := &graph{Width: 3*nodeWidth + 2*columnGap, Height: rows*(nodeHeight+nodeGap) + nodeGap}
	here := graphNode{
		X: nodeWidth + columnGap, Y: (g.Height - nodeHeight) / 2, Width: nodeWidth, Height: nodeHeight,
		Text: fromRight(u.Module), Class: "here",
	}
	middle := here.Y + nodeHeight/2
	column := func(nodes []graphNode, x int) {
		y := (g.Height - len(nodes)*(nodeHeight+nodeGap) + nodeGap) / 2
		for _, n := range nodes {
			n.X, n.Y, n.Width, n.Height = x, y, nodeWidth, nodeHeight
			e := graphEdge{x + nodeWidth, y + nodeHeight/2, here.X, middle}
			if x > here.X {
				e = graphEdge{here.X + nodeWidth, middle, x, y + nodeHeight/2}
			}
			g.Nodes, g.Edges = append(g.Nodes, n), append(g.Edges, e)
			y += nodeHeight + nodeGap
		}
	}
	column(left, 0)
	g.Nodes = append(g.Nodes, here)
	column(right, here.X+nodeWidth+columnGap)
	return g
}

// fromRight returns the end of a path that is too long for a node.
func fromRight(path string) string {
	if r := []rune(path); len(r) > maxNodeText {
		return "…" + string(r[len(r)-maxNodeText:])
	}
	return path
}
