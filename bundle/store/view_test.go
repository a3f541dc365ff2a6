package store_test

import (
	"testing"

	"github.com/modmirror/modmirror/internal/testbundle"
)

// TestRecordOfAnotherDatabase: a record is one of the database that it was logged in, and of no
// other.
func TestRecordOfAnotherDatabase(t *testing.T) {
	tb := testbundle.Make(t, modfiles, nil)
	s := newStore(t, tb.Trusted)
	if err := take(t, s, tb, nil); err != nil {
		t.Fatal(err)
	}
	v, err := s.View(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	for db, want := range map[string]bool{tb.DB.Name: true, "sum.other.example": false, "": false} {
		if _, ok, err := v.Record(ctx, db, "example.com/hello", "v1.1.0"); ok != want || err != nil {
			t.Errorf("in %q: %v, %v", db, ok, err)
		}
	}
}
