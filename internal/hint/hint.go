// Package hint defines errors that tell a person what to do next.
package hint

import "fmt"

// An Error is an error with the next step for the person who reads it.
type Error struct {
	Err  error
	Hint string // one line, such as a command to type
}

// Error returns the text of the error without the hint.
func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the error without the hint.
func (e *Error) Unwrap() error { return e.Err }

// Add returns err with a hint, formatted as by fmt.Sprintf.
func Add(err error, format string, args ...any) error {
	return &Error{err, fmt.Sprintf(format, args...)}
}

// A UsageError is a mistake in what the person asked for: nothing was tried.
type UsageError struct{ Msg string }

// Error returns the message.
func (e *UsageError) Error() string { return e.Msg }

// Usagef returns a UsageError, formatted as by fmt.Sprintf.
func Usagef(format string, args ...any) error { return &UsageError{fmt.Sprintf(format, args...)} }
