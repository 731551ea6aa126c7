package keyrotation

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/go-logr/logr/funcr"
	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/controllers/internal/crashtest"
	"github.com/securenotes/securenotes/controllers/internal/rotations"
)

// line is a line of the operator's log.
type line struct {
	Level                              int
	Msg, SecureNotes, Step, State, Job string
	Reason, Message                    string
	FromVersion, ToVersion             int64
}

// logged returns a context whose logger appends to the returned lines, and to the returned text.
func logged(t *testing.T) (context.Context, *[]line, *strings.Builder) {
	t.Helper()
	var lines []line
	var text strings.Builder
	logger := funcr.NewJSON(func(object string) {
		l := line{}
		if err := json.Unmarshal([]byte(object), &l); err != nil {
			t.Errorf("%s: %v", object, err)
		}
		lines = append(lines, l)
		text.WriteString(object + "\n")
	}, funcr.Options{Verbosity: 1})
	return log.IntoContext(t.Context(), logger), &lines, &text
}

// TestEachStepIsLogged: every step is one line with its versions and its Job, no line has a secret,
// and a rotation that has ended logs nothing.
func TestEachStepIsLogged(t *testing.T) {
	t.Parallel()
	w := newWorld(t, &crashtest.Crash{}, rotation("first", urgent))
	ctx, lines, text := logged(t)
	r := w.reconciler(events.NewFakeRecorder(100))
	pass := func() {
		if _, err := r.Reconcile(ctx, ctrl.Request{NamespacedName: client.ObjectKey{Namespace: "ns", Name: "first"}}); err != nil {
			t.Fatal(err)
		}
	}
	for range 10 {
		pass()
		w.recreateAccounts(t)
		w.restart(t)
		w.endJobs(t, batchv1.JobComplete)
		w.retire(t)
	}
	if kr := w.rotation(t, "first"); !rotations.IsTrue(kr, v1alpha1.ConditionOldVersionRetired) {
		t.Fatalf("got %+v, want the whole Compromise", kr.Status)
	}
	var taken []string
	for _, l := range *lines {
		if l.Msg != "rotation step taken" {
			continue
		}
		taken = append(taken, l.Step)
		if l.Level != 0 || l.SecureNotes != "notes" {
			t.Errorf("got %+v, want level 0 and the SecureNotes", l)
		}
		if isJob := strings.Contains(l.Step, "Reencrypt") || strings.Contains(l.Step, "Verif"); isJob != (l.Job != "") {
			t.Errorf("got %+v, want the Job where the step is about one", l)
		}
		if later := slices.Contains(taken, "RecordTo"); later && (l.FromVersion != 1 || l.ToVersion != 2) {
			t.Errorf("got %+v, want versions 1 and 2", l)
		}
	}
	want := []string{
		"Adopt", "Guard", "Start", "RecordFrom", "RotateKey", "RecordTo", "RaiseMinEncryption",
		"RecordAccounts", "DeleteAccounts", "RecordAccountsRecreated", "RevokeDatabaseCredentials",
		"RecordBackupKey", "ReplaceBackupKey", "ReplaceSessionKeys",
		"CreateReencrypt", "DeleteOldSessionKeys", "RecordReencrypted", "CreateVerify", "RecordVerified", "RecordRetirement", "Release", "RecordRetired",
	}
	if diff := cmp.Diff(want, taken); diff != "" {
		t.Error(diff)
	}
	if secret := w.vault.newest.Digest; secret == "" || strings.Contains(text.String(), secret) {
		t.Errorf("the log has the digest %q of the session keys", secret)
	}
	before := len(*lines)
	pass()
	if got := (*lines)[before:]; len(got) != 0 {
		t.Errorf("a rotation that has ended logs %+v", got)
	}
}

// TestAWaitIsLoggedOnce: what a rotation waits for is one line at level 1, until it waits for
// something else. A pass that a stale cache ends is one line at level 1, and not an error.
func TestAWaitIsLoggedOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, &crashtest.Crash{}, rotation("first"))
	ctx, lines, _ := logged(t)
	r := w.reconciler(events.NewFakeRecorder(100))
	own := r.Client
	pass := func() {
		if _, err := r.Reconcile(ctx, ctrl.Request{NamespacedName: client.ObjectKey{Namespace: "ns", Name: "first"}}); err != nil {
			t.Fatal(err)
		}
	}
	count := func(msg, reason string) int {
		n := 0
		for _, l := range *lines {
			if l.Msg == msg && strings.Contains(l.Reason, reason) && l.Level == 1 {
				n++
			}
		}
		return n
	}
	for range 3 {
		pass()
	}
	if got := count("rotation waits", v1alpha1.ReasonReencrypting); got != 1 {
		t.Errorf("got %d lines about the running Job, want 1: %+v", got, *lines)
	}
	r.Client = interceptor.NewClient(own.(client.WithWatch), interceptor.Funcs{
		SubResourcePatch: func(_ context.Context, _ client.Client, _ string, o client.Object, _ client.Patch, _ ...client.SubResourcePatchOption) error {
			return apierrors.NewConflict(v1alpha1.GroupVersion.WithResource("keyrotations").GroupResource(), o.GetName(), errors.New("it has changed"))
		},
	})
	w.endJobs(t, batchv1.JobFailed)
	pass()
	if got := count("requeued", "it has changed"); got != 1 {
		t.Errorf("got %d lines about the stale cache, want 1: %+v", got, *lines)
	}
	r.Client = own
	pass()
	failed := slices.IndexFunc(*lines, func(l line) bool {
		return l.Msg == "rotation failed" && l.Level == 0 && l.Reason == v1alpha1.ReasonJobFailed && l.Message != ""
	})
	if failed < 0 {
		t.Errorf("got %+v, want a line at level 0 about the failure", *lines)
	}
}

// TestAFailureIsLogged: the log says why a rotation has failed, as its condition does.
func TestAFailureIsLogged(t *testing.T) {
	t.Parallel()
	w := newWorld(t, &crashtest.Crash{}, rotation("first"))
	ctx, lines, _ := logged(t)
	w.pass(t, "first")
	w.terminatePods(t, config.Termination{Reason: "StaleRows", Message: "2 rows are below version 2"})
	w.endJobs(t, batchv1.JobFailed)
	if _, err := w.reconciler(events.NewFakeRecorder(100)).Reconcile(ctx, ctrl.Request{NamespacedName: client.ObjectKey{Namespace: "ns", Name: "first"}}); err != nil {
		t.Fatal(err)
	}
	failed := slices.IndexFunc(*lines, func(l line) bool {
		return l.Msg == "rotation failed" && l.Reason == "StaleRows" && strings.Contains(l.Message, "2 rows are below version 2") && l.ToVersion == 2
	})
	if failed < 0 {
		t.Errorf("got %+v, want the reason of the Job's pod", *lines)
	}
}

// TestStepsNotTakenAreNotLogged: a step that finds a reason not to be taken is not logged as taken.
func TestStepsNotTakenAreNotLogged(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		step    string
		prepare func(*testing.T, *world, *Reconciler)
	}{
		"a foreign Job that the cache does not show": {"CreateVerify", func(t *testing.T, w *world, r *Reconciler) {
			t.Helper()
			w.forgeJob(t)
			w.endJobs(t, batchv1.JobComplete)
			r.Client = interceptor.NewClient(r.Client.(client.WithWatch), interceptor.Funcs{
				Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
					if strings.Contains(key.Name, "verify") {
						return apierrors.NewNotFound(batchv1.Resource("jobs"), key.Name)
					}
					return c.Get(ctx, key, o, opts...)
				},
			})
		}},
		"database users that Vault cannot drop": {"RevokeDatabaseCredentials", func(_ *testing.T, w *world, _ *Reconciler) {
			w.vault.unrevoked = errors.New("the database does not respond")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, &crashtest.Crash{}, rotation("first", urgent))
			w.pass(t, "first")
			w.recreateAccounts(t)
			if tc.step != "RevokeDatabaseCredentials" {
				w.pass(t, "first")
			}
			ctx, lines, _ := logged(t)
			r := w.reconciler(events.NewFakeRecorder(100))
			tc.prepare(t, w, r)
			if _, err := r.Reconcile(ctx, ctrl.Request{NamespacedName: client.ObjectKey{Namespace: "ns", Name: "first"}}); err != nil {
				t.Fatal(err)
			}
			why := 0
			for _, l := range *lines {
				if l.Msg == "rotation step taken" && l.Step == tc.step {
					t.Errorf("got %+v, want no such step", l)
				}
				if l.Level == 0 && l.Reason != "" && l.Message != "" {
					why++
				}
			}
			if why != 1 {
				t.Errorf("got %d lines that say why, want 1: %+v", why, *lines)
			}
		})
	}
}
