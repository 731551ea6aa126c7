//go:build !integration

package envelope

import "testing"

// eachProvider runs a test with every provider that needs no server.
func eachProvider(t *testing.T, test func(*testing.T, rotatable)) {
	t.Run("Local", func(t *testing.T) { test(t, newRotatableLocal(t)) })
}
