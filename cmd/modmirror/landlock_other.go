//go:build !linux

package main

import "log/slog"

// restrict does nothing: there is no Landlock here.
func restrict(*slog.Logger, needs) {}

func hasLandlock() bool { return false }
