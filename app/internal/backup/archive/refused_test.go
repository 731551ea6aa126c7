package archive_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/securenotes/securenotes/app/internal/backup/archive"
)

// refused checks that err is a [archive.Refusal] for the given reason, whose text has want, names
// its object first, and says what to do at the end.
func refused(t *testing.T, err, reason error, want string) {
	t.Helper()
	if err == nil {
		t.Fatal("got no error")
	}
	if !errors.Is(err, reason) {
		t.Errorf("got error %v, want one that is %v", err, reason)
	}
	var refusal *archive.Refusal
	if !errors.As(err, &refusal) {
		t.Fatalf("got error %v, want a Refusal", err)
	}
	if !errors.Is(refusal.Reason, reason) {
		t.Errorf("the refusal's own reason is %v, want %v", refusal.Reason, reason)
	}
	if refusal.Object == "" || refusal.Cause == "" || refusal.Next == "" {
		t.Errorf("the refusal lacks its object, cause or next step: %+v", refusal)
	}
	if text := err.Error(); !strings.HasPrefix(text, refusal.Object+": ") || !strings.HasSuffix(text, ": "+refusal.Next) || !strings.Contains(text, want) {
		t.Errorf("got text %q, want %q in it", text, want)
	}
}
