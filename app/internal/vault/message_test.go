package vault

import (
	"errors"
	"strings"
	"testing"

	"github.com/hashicorp/vault/api"
)

// TestFirstMessage checks what an error quotes of Vault's answer.
func TestFirstMessage(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		err  error
		want string
	}{
		"no answer":      {err: errors.New("x"), want: "no reason given"},
		"no message":     {err: &api.ResponseError{}, want: "no reason given"},
		"several":        {err: &api.ResponseError{Errors: []string{" first \n", "second"}}, want: "first"},
		"a long message": {err: &api.ResponseError{Errors: []string{"x" + strings.Repeat("é", 200)}}, want: "x" + strings.Repeat("é", 99)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := firstMessage(tc.err); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}
