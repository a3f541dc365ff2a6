module github.com/modmirror/modmirror/bench/inflate

go 1.26.0

require (
	github.com/klauspost/compress v1.20.1
	github.com/modmirror/modmirror v0.0.0
)

replace github.com/modmirror/modmirror => ../..
