//go:build integration

package chaos_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/hack/testenv"
)

// Environment variables that set the duration and the seed of the test.
const (
	durationVariable = "SECURENOTES_CHAOS_DURATION"
	seedVariable     = "SECURENOTES_CHAOS_SEED"
)

func duration(t testing.TB) time.Duration {
	t.Helper()
	text := os.Getenv(durationVariable)
	if text == "" {
		return 25 * time.Second
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("%s: %v", durationVariable, err)
	}
	return d
}

func seed(t testing.TB) uint64 {
	t.Helper()
	text := os.Getenv(seedVariable)
	if text == "" {
		return 1
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", seedVariable, err)
	}
	return n
}

// round runs one rotation, from the new version in Vault to the retirement of the old one, while
// faults occur. It returns a problem that a retry cannot solve, or "".
func (w *world) round() (stuck string) {
	w.Helper()
	w.random = w.dice(uint64(w.rotations) << 8)
	strategy := "Reencrypt"
	if w.random.IntN(3) == 0 {
		strategy = "Rewrap"
	}
	// A replica has wrapped keys under the old version, and commits them only after the rotation.
	wakeUp := func() {}
	if every := w.shape.holdEvery; every > 0 && w.rotations%every == 0 {
		w.held = w.another()
		wakeUp = w.hold(w.held.link.HoldRequests)
		time.Sleep(700 * time.Millisecond) // registrations proceed as far as they can
	}
	defer func() {
		wakeUp()
		w.held = nil
	}()

	// A Job of the previous rotation that has got only its first answer.
	var asleep *job
	rouse := func() {}
	if previous := w.rotations; previous > 0 && w.random.IntN(2) == 0 {
		rouse = w.hold(w.sleeper.link.Hold)
		asleep = w.startJob(w.sleeper, reencryptArgs("Reencrypt", previous+1)...)
	}
	defer rouse()

	to := w.key.Rotate(w)
	w.rotations++
	if out, ok := w.untilDone(reencryptArgs(strategy, to)); !ok {
		return out
	}
	if out, ok := w.untilDone(verifyArgs(strategy, to)); !ok {
		return out
	}
	w.key.Retire(w, to)
	wakeUp()
	rouse()
	if asleep != nil {
		if code := w.exit(asleep); code != config.ExitSuperseded && code != config.ExitRetryable {
			return fmt.Sprintf("the Job of an older rotation ended with %d:\n%s", code, asleep.out.String())
		}
	}
	return ""
}

// finish ends the load, rotates once more without faults, and checks everything.
func (w *world) finish() {
	w.Helper()
	w.load.End()
	to := w.key.Rotate(w)
	for _, args := range [][]string{reencryptArgs("Reencrypt", to), verifyArgs("Reencrypt", to)} {
		j := w.startJob(w.jobs, args...)
		if code := w.exit(j); code != 0 {
			w.Fatalf("%v ended with %d:\n%s", args, code, j.out.String())
		}
	}
	w.key.Retire(w, to)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	w.say("reading every note")
	if err := w.load.Check(ctx); err != nil {
		w.Fatal(err)
	}
	w.say("every note has been read")
	if keys, users := w.count("SELECT count(*) FROM owner_keys"), w.count("SELECT count(*) FROM users"); keys != users {
		w.Errorf("%d owner keys for %d users", keys, users)
	}
	w.Logf("%d rotations; %s; faults: %v", w.rotations, w.load, w.faults)
}

// TestUnderFire rotates repeatedly while users write through two replicas. Meanwhile it kills,
// seals, crashes, revokes or delays everything, and each database login lasts only for seconds.
// Every acknowledged write must exist, and every deleted note must stay deleted.
func TestUnderFire(t *testing.T) {
	t.Parallel()
	w := newWorld(t, program(t), seed(t), shape{users: 3, newcomers: 2, jobDelay: time.Millisecond, lease: 6 * time.Second, holdEvery: 2})
	for begun := time.Now(); time.Since(begun) < duration(t) && !w.violated(); {
		if stuck := w.round(); stuck != "" {
			t.Fatal(stuck)
		}
	}
	w.finish()
	w.report()
}

func (w *world) report() {
	w.Helper()
	kept, all := w.load.Violations()
	if all > 0 {
		w.Errorf("seed %d: %d violations:\n%s", seed(w), all, strings.Join(kept, "\n"))
	}
}

// mutantRounds is how long a mutant may survive.
const mutantRounds = 15

// TestMutants removes the parts that prevent the loss of notes, one at a time, and checks that the
// same test detects each removal.
func TestMutants(t *testing.T) {
	t.Parallel()
	for name, mutant := range map[string]struct {
		shape shape
		flags func(testing.TB) []string
	}{
		"without the fence": {shape: shape{users: 1, newcomers: 4, holdEvery: 1, prepare: func(w *world) {
			w.execute("DROP TRIGGER owner_keys_fence ON owner_keys")
		}}},
		"without the compare-and-set": {shape: shape{users: 4, jobDelay: 20 * time.Millisecond}, flags: func(t testing.TB) []string {
			return overlay(t, "app/internal/store/postgres_rotation.go", " AND t.key_id IS NOT DISTINCT FROM $3 AND t.revision = b.revision", " AND $3 <> '' AND b.revision > 0")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			binary := program(t)
			if mutant.flags != nil {
				binary = testenv.BuildProgram(t, t.TempDir(), mutant.flags(t)...)
			}
			w := newWorld(t, binary, seed(t), mutant.shape)
			for range mutantRounds {
				stuck := w.round()
				if stuck == "" && !w.violated() {
					continue
				}
				if !w.violated() && !strings.Contains(stuck, config.ReasonKeyMismatch) && !strings.Contains(stuck, config.ReasonStaleRows) {
					t.Fatalf("the rotation failed for another reason: %s", stuck)
				}
				kept, all := w.load.Violations()
				t.Logf("detected after %d rotations: %d violations: %s %s", w.rotations, all, strings.Join(kept, "\n"), stuck)
				return
			}
			t.Errorf("the mutant survived %d rotations; %s; faults: %v", w.rotations, w.load, w.faults)
		})
	}
}

// overlay returns the flag of go build that replaces one text in one file of the project. The file
// must contain the text exactly once.
func overlay(t testing.TB, file, old, changed string) []string {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(root, file)
	source, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(source), old); n != 1 {
		t.Fatalf("%s contains %q %d times, want once: update the mutation", file, old, n)
	}
	mutated := filepath.Join(t.TempDir(), "mutated.go")
	if err := os.WriteFile(mutated, []byte(strings.Replace(string(source), old, changed, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(map[string]any{"Replace": map[string]string{path: mutated}})
	if err != nil {
		t.Fatal(err)
	}
	list := filepath.Join(t.TempDir(), "overlay.json")
	if err := os.WriteFile(list, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	return []string{"-overlay", list}
}
