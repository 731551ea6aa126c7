package toolchain

import "testing"

// TestHasVersion checks that only a program with exactly the pinned version is adopted.
func TestHasVersion(t *testing.T) {
	tests := map[string]struct {
		says string
		want bool
	}{
		"kind":             {"kind v0.33.0 go1.26.0 linux/amd64", true},
		"helm":             {`version.BuildInfo{Version:"v0.33.0", GitCommit:"abc", GoVersion:"go1.26"}`, true},
		"another":          {"kind v0.33.1 go1.26.0 linux/amd64", false},
		"a pre-release":    {"kind v0.33.0-alpha+abc go1.26.0 linux/amd64", false},
		"a longer version": {"kind v0.33.01", false},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if got := hasVersion(tc.says, "v0.33.0"); got != tc.want {
				t.Errorf("got %t, want %t", got, tc.want)
			}
		})
	}
}
