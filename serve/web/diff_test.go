package web

import "testing"

// TestBefore chooses what a version is compared with.
func TestBefore(t *testing.T) {
	for _, test := range []struct {
		others      []string
		other, want string
	}{
		{[]string{"v1.3.0", "v1.1.0", "v1.0.0"}, "v1.2.0", "v1.1.0"},
		{[]string{"v1.3.0", "v1.2.5"}, "v1.2.0", "v1.2.5"},
		{[]string{"v1.0.0"}, "v2.0.0+incompatible", "v1.0.0"},
	} {
		if got := before(test.others, test.other); got != test.want {
			t.Errorf("%s before %s of %v, want %s", got, test.other, test.others, test.want)
		}
	}
}
