package tour

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/securenotes/securenotes/hack/kind/internal/kube"
)

// patience is how long a rotation of a handful of notes may take on a busy machine.
const patience = 5 * time.Minute

// Rotate creates a KeyRotation and follows it to its end.
func Rotate(ctx context.Context, k kube.Client, namespace, name string, say func(string, ...any)) (string, error) {
	out, err := k.Command("-n", namespace, "create", "-o", "json", "-f", "-").WithStdin(strings.NewReader(fmt.Sprintf(`apiVersion: securenotes.dev/v1alpha1
kind: KeyRotation
metadata: {generateName: %[1]s-}
spec: {secureNotesRef: {name: %[1]s}}
`, name))).Output(ctx)
	if err != nil {
		return "", err
	}
	var made struct{ Metadata struct{ Name string } }
	if err := json.Unmarshal([]byte(out), &made); err != nil {
		return "", err
	}
	say("KeyRotation %s made", made.Metadata.Name)

	last := ""
	var r rotation
	err = kube.Until(ctx, patience, 500*time.Millisecond, func(ctx context.Context) error {
		if _, err := k.Get(ctx, namespace, "keyrotations.securenotes.dev", made.Metadata.Name, &r); err != nil {
			return err
		}
		if line := r.line(); line != last {
			say("%s", line)
			last = line
		}
		if !r.ended() {
			return errors.New("the rotation has not ended: " + r.line())
		}
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("%w%s", err, k.Describe(ctx, namespace))
	}
	if r.Status.State != "Complete" {
		return "", fmt.Errorf("the rotation failed: %s%s", r.message(), k.Describe(ctx, namespace))
	}
	return fmt.Sprintf("master key version %d to %d", r.Status.FromVersion, r.Status.ToVersion), nil
}

// rotation is the part of a KeyRotation that people follow.
type rotation struct {
	Status struct {
		State                  string
		FromVersion, ToVersion int64
		Progress               *struct{ NotesDone, NotesTotal, Percent int64 }
		CompletionTime         string
		Conditions             []struct{ Type, Status, Reason, Message string }
	}
}

func (r rotation) ended() bool { return r.Status.CompletionTime != "" }

func (r rotation) line() string {
	s := r.Status
	line := s.State
	if line == "" {
		line = "waiting for the operator"
	}
	if s.FromVersion > 0 {
		line += fmt.Sprintf(", from version %d", s.FromVersion)
	}
	if s.ToVersion > 0 {
		line += fmt.Sprintf(" to %d", s.ToVersion)
	}
	if p := s.Progress; p != nil {
		line += fmt.Sprintf(", %d of %d notes (%d %%)", p.NotesDone, p.NotesTotal, p.Percent)
	}
	return line
}

func (r rotation) message() string {
	var all []string
	for _, c := range r.Status.Conditions {
		all = append(all, c.Type+"="+c.Status+" "+c.Reason+": "+c.Message)
	}
	return strings.Join(all, "; ")
}
