package web

import "testing"

// TestCSV expects that no text of a module is a formula of a spreadsheet.
func TestCSV(t *testing.T) {
	table := &table{Columns: []string{"B", "A"}, Cells: [][]cell{
		{{Text: "=1+1"}, {Text: "z"}}, {{Text: "+1"}, {Text: "b, \"c\""}}, {{Text: "-1"}, {Text: "a\nb"}}, {{Text: "@x"}, {}}, {{Text: "v1=2"}, {Text: "y"}},
	}}
	table.sorted("A")
	got, err := table.csv()
	want := "B,A\n'@x,\n'-1,\"a\nb\"\n'+1,\"b, \"\"c\"\"\"\nv1=2,y\n'=1+1,z\n"
	if err != nil || string(got) != want {
		t.Errorf("%v\n%s, want\n%s", err, got, want)
	}
	if table.sorted("C"); table.Sort != "A" {
		t.Errorf("sorted by %s", table.Sort)
	}
}

func TestSize(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 999: "999 B", 1000: "1 KB", 94_100: "94.1 KB", 71_700_000: "71.7 MB", 3_000_000_000: "3 GB", 4e15: "4e+06 GB"} {
		if got := size(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
}
