package frames

import (
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMotionOfVMStat(t *testing.T) {
	m, err := parseMotion("pgmigrate_success 12\nxpswpout 3\nnr_zswpout 4\npglazyfreed 5\nthp_collapse_alloc_failed 6\nthp_collapse_alloc 7")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(motion{"pgmigrate_success": 12, "pglazyfreed": 5, "thp_collapse_alloc": 7}, m); diff != "" {
		t.Error(diff)
	}
	if _, err := parseMotion("pswpout many\n"); err == nil {
		t.Error("a counter that is no number was read")
	}
	m, err = readMotion()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"pgmigrate_success", "pswpout", "pglazyfreed", "thp_collapse_alloc"} { // all kernels since v4.12
		if _, counted := m[name]; !counted {
			t.Errorf("this kernel does not count %s", name)
		}
	}
}

func TestLooksUntilNothingMoves(t *testing.T) {
	broken := errors.New("broken")
	for _, tt := range []struct {
		name   string
		counts []uint64 // of migrations, when it is read
		looked error
		looks  int
		want   error
	}{
		{"nothing moves", []uint64{5, 5}, nil, 1, nil},
		{"once", []uint64{5, 6, 6}, nil, 2, nil},
		{"twice", []uint64{5, 6, 9, 9}, nil, 3, nil},
		{"without end", []uint64{5, 6, 7, 8}, nil, 3, ErrMoved},
		{"what it looks at has moved", []uint64{5}, ErrMoved, 1, ErrMoved},
		{"it cannot look", []uint64{5}, broken, 1, broken},
	} {
		t.Run(tt.name, func(t *testing.T) {
			counts, looks := slices.Clone(tt.counts), 0
			err := undisturbed(func() (motion, error) {
				m := motion{"pgmigrate_success": counts[0]}
				counts = counts[1:]
				return m, nil
			}, func() error {
				looks++
				return tt.looked
			})
			if !errors.Is(err, tt.want) || looks != tt.looks || len(counts) > 0 {
				t.Errorf("%v, %d times looked, %v not read", err, looks, counts)
			}
		})
	}
}
