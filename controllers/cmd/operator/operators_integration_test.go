//go:build integration

package main

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/operand"
)

// lockstep lets two operators change the KeyRotations of a namespace only together, so that both
// have decided before either writes. It waits for a missing one no longer than patience.
type lockstep struct {
	namespace string
	patience  time.Duration

	mu      sync.Mutex
	waiting chan struct{}
	met     int
}

func (l *lockstep) wrap(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(request *http.Request) (*http.Response, error) {
		if request.Method != http.MethodGet && strings.Contains(request.URL.Path, "/namespaces/"+l.namespace+"/keyrotations") {
			l.meet(request.Context())
		}
		return next.RoundTrip(request)
	})
}

func (l *lockstep) meet(ctx context.Context) {
	l.mu.Lock()
	if other := l.waiting; other != nil {
		l.waiting = nil
		l.met++
		close(other)
		l.mu.Unlock()
		return
	}
	own := make(chan struct{})
	l.waiting = own
	l.mu.Unlock()
	select {
	case <-own:
	case <-ctx.Done():
	case <-time.After(l.patience):
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.waiting == own {
		l.waiting = nil
	}
}

func (l *lockstep) times() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.met
}

// TestOperatorsAbreast: two operators, neither of which is elected, carry out the same rotation at
// the same time. It adds at most one extra version, creates each Job once, and records the
// retirement once.
func TestOperatorsAbreast(t *testing.T) {
	t.Parallel()
	c, namespace := apart(t, apartOptions{noOperator: true})
	pair := &lockstep{namespace: namespace, patience: 300 * time.Millisecond}
	for range 2 {
		c.runOperator(t, c.config, pair.wrap)
	}

	sn := postgresNotes(namespace, "notes")
	sn.Spec.KeyRotation.RetainOldVersionFor = "24h"
	c.ready(t, sn)
	kr := rotationOf(sn, "first")
	if err := c.Create(t.Context(), kr); err != nil {
		t.Fatal(err)
	}
	c.awaitState(t, kr, v1alpha1.ReasonReencrypting)
	to := *kr.Status.ToVersion
	if to != 2 && to != 3 {
		t.Errorf("the rotation went to version %d", to)
	}
	jobs := []string{operand.ReencryptJobName("notes", to, 1), operand.VerifyJobName("notes", to, 1)}
	for _, name := range jobs {
		c.finishJob(t, namespace, name)
	}
	c.awaitState(t, kr, v1alpha1.ReasonComplete)
	c.awaitRotation(t, kr, "the finalizer", func() string { return strings.Join(kr.Finalizers, " ") })
	if pair.times() == 0 {
		t.Error("the operators never met")
	}
	t.Logf("they met %d times", pair.times())

	list := &batchv1.JobList{}
	if err := c.List(t.Context(), list, client.InNamespace(namespace)); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, job := range list.Items {
		names = append(names, job.Name)
	}
	slices.Sort(names)
	if !slices.Equal(names, jobs) || kr.Status.Attempt != 1 {
		t.Errorf("Jobs %v, attempt %d; want %v of the first attempt", names, kr.Status.Attempt, jobs)
	}
	latest, minDecryption, minEncryption := c.keyVersions(t, sn)
	if (latest != "2" && latest != "3") || minDecryption != "1" || minEncryption != strconv.FormatInt(to, 10) {
		t.Errorf("versions: latest %s, decryption %s, encryption %s, rotated to %d", latest, minDecryption, minEncryption, to)
	}
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(sn), sn); err != nil {
		t.Fatal(err)
	}
	if due := sn.Status.MasterKey.PendingRetirements; len(due) != 1 || due[0].ToVersion != to {
		t.Errorf("retirements: %+v", due)
	}
	t.Run("rotations made at once", func(t *testing.T) { testRotationsAtOnce(t, c, sn, to) })
}

// testRotationsAtOnce: each operator starts with any of several rotations. Each rotation has its
// turn alone: none fails, and no two share a version.
func testRotationsAtOnce(t *testing.T, c *cluster, sn *v1alpha1.SecureNotes, before int64) {
	var all []*v1alpha1.KeyRotation
	for _, name := range []string{"third", "second", "fourth"} {
		kr := rotationOf(sn, name)
		if err := c.Create(t.Context(), kr); err != nil {
			t.Fatal(err)
		}
		all = append(all, kr)
	}
	var versions []int64
	for range all {
		var atWork *v1alpha1.KeyRotation
		await(t, "a running rotation", func() string {
			for _, kr := range all {
				if err := c.Get(context.Background(), client.ObjectKeyFromObject(kr), kr); err != nil {
					return err.Error()
				}
				if kr.Status.State == v1alpha1.ReasonReencrypting && kr.Status.ReencryptJobUID != "" {
					atWork = kr
					return ""
				}
			}
			return "there is none"
		})
		to := *atWork.Status.ToVersion
		c.finishJob(t, sn.Namespace, operand.ReencryptJobName("notes", to, 1))
		c.finishJob(t, sn.Namespace, operand.VerifyJobName("notes", to, 1))
		c.awaitState(t, atWork, v1alpha1.ReasonComplete)
		versions = append(versions, to)
	}
	for i, to := range versions {
		if to <= before || slices.Contains(versions[:i], to) {
			t.Errorf("the rotations went to versions %v, after %d", versions, before)
		}
		before = max(before, to)
	}
}
