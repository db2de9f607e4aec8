package pageserver

import (
	"bytes"
	"slices"
	"testing"

	"github.com/fxamacker/cbor/v2"

	"github.com/kup-project/kup/internal/image"
)

// TestManyRunsAreHandedOver has more of them than a CBOR array may have elements.
func TestManyRunsAreHandedOver(t *testing.T) {
	var many Runs
	for at := range uint64(200_000) {
		many = append(many, image.Extent{Start: 2 * at * pageSize, End: (2*at + 1) * pageSize})
	}
	var pipe bytes.Buffer
	if err := cbor.NewEncoder(&pipe).Encode(config{Spaces: []Space{{Missing: many}, {}}}); err != nil {
		t.Fatal(err)
	}
	var got config
	if err := cbor.NewDecoder(&pipe).Decode(&got); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got.Spaces[0].Missing, many) || len(got.Spaces[1].Missing) != 0 {
		t.Errorf("%d and %d runs", len(got.Spaces[0].Missing), len(got.Spaces[1].Missing))
	}
}
