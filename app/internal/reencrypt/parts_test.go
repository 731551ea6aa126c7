package reencrypt

import "testing"

// TestCountingParts checks that the parts cover everything without a gap, and that there are not
// too many.
func TestCountingParts(t *testing.T) {
	for keys, want := range map[int64]int{0: 2, 99: 2, 100: 3, 1000: 12, 6200: 64, 1_000_000_000: 64} {
		parts := countingParts(keys)
		if len(parts) != want {
			t.Errorf("%d keys: %d parts, want %d", keys, len(parts), want)
		}
		for i, part := range parts {
			switch {
			case i == 0 && part.From != "", i == len(parts)-1 && part.To != "":
				t.Errorf("%d keys: part %d of %d leaves something out: %v", keys, i, len(parts), part)
			case i > 0 && (part.From != parts[i-1].To || part.From <= parts[i-1].From), i+1 < len(parts) && part.To == "":
				t.Errorf("%d keys: part %d of %d is %v, after %v", keys, i, len(parts), part, parts[i-1])
			}
		}
	}
}
