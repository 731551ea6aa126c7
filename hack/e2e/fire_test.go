//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/hack/chaos"
	"github.com/securenotes/securenotes/hack/notesclient"
	"github.com/securenotes/securenotes/hack/poll"
)

// environment returns the parsed value of an environment variable, or otherwise if it is not set.
func environment[T any](t testing.TB, name string, otherwise T, parse func(string) (T, error)) T {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	value, err := parse(text)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return value
}

// fire injects faults during rotations.
type fire struct {
	*cluster
	t        testing.TB
	vault    *vault
	random   *rand.Rand
	injected map[string]int
	// remaining are the faults that have not occurred in the current round.
	remaining []fault
}

// fault is one thing that goes wrong.
type fault struct {
	name   string
	inject func(f *fire)
}

// next injects a random fault. Each fault occurs once before any occurs again.
func (f *fire) next() {
	if len(f.remaining) == 0 {
		f.remaining = slices.Clone(faults)
		f.random.Shuffle(len(f.remaining), func(i, j int) { f.remaining[i], f.remaining[j] = f.remaining[j], f.remaining[i] })
	}
	chosen := f.remaining[0]
	f.remaining = f.remaining[1:]
	f.injected[chosen.name]++
	chosen.inject(f)
}

// deletePod deletes a random pod with the labels. warning is its grace period in seconds.
func (f *fire) deletePod(namespace string, labels client.MatchingLabels, warning int64) {
	f.t.Helper()
	pods := &corev1.PodList{}
	if err := f.List(context.Background(), pods, client.InNamespace(namespace), labels); err != nil {
		f.t.Fatal(err)
	}
	if len(pods.Items) == 0 {
		return
	}
	pod := &pods.Items[f.random.IntN(len(pods.Items))]
	if err := f.Delete(context.Background(), pod, client.GracePeriodSeconds(warning)); client.IgnoreNotFound(err) != nil {
		f.t.Fatal(err)
	}
}

var faults = []fault{
	{"a pod of the Job is killed", func(f *fire) {
		f.deletePod(f.namespace, client.MatchingLabels{"app.kubernetes.io/component": "rotation"}, 0)
	}},
	{"a pod of the API is killed", func(f *fire) {
		f.deletePod(f.namespace, client.MatchingLabels{"app.kubernetes.io/component": "api"}, 0)
	}},
	{"the operator is killed", func(f *fire) {
		f.deletePod(operatorNamespace, client.MatchingLabels{"app.kubernetes.io/name": "securenotes-operator"}, 0)
	}},
	{"the database is killed", func(f *fire) {
		// Without a grace period Kubernetes would start the next pod while the old one still writes
		// to the same files, which would destroy the database.
		f.deletePod("postgres", nil, 1)
	}},
	{"Vault is sealed", func(f *fire) {
		if err := f.vault.Sys().Seal(); err != nil {
			f.t.Fatal(err)
		}
		time.Sleep(time.Duration(500+f.random.IntN(3000)) * time.Millisecond)
		f.vault.unseal(f.t)
	}},
}

// TestUnderFire rotates the sample's key in each of three ways while users write. Meanwhile it
// kills pods, the operator and the database and seals Vault, in random order and each at least
// once. At the end every acknowledged write must exist, every deleted note must stay deleted, and
// nothing may be left under an old version.
//
// The environment variable SECURENOTES_CHAOS_DURATION makes the test longer, and
// SECURENOTES_CHAOS_SEED chooses another order. TestUnderFire in hack/chaos does the same with
// processes, many times as often.
func TestUnderFire(t *testing.T) {
	c := open(t)
	c.ready(t, c.sample())
	seed := environment(t, "SECURENOTES_CHAOS_SEED", 1, func(s string) (uint64, error) { return strconv.ParseUint(s, 10, 64) })
	least := environment(t, "SECURENOTES_CHAOS_DURATION", 0, time.ParseDuration)
	f := &fire{cluster: c, t: t, vault: c.vault(t), random: rand.New(rand.NewPCG(seed, 0)), injected: map[string]int{}}

	// Each request uses a new connection, so that requests reach all pods.
	load, err := chaos.Start(t.Context(), chaos.Options{
		Replicas: []*notesclient.Client{notesclient.New(c.url, notesclient.Options{RootCAs: trusted(t, c.ca), ConnectionPerRequest: true})},
		Seed:     seed, Users: 3, Notes: 20, Newcomers: 1, MaxAccounts: 200,
		Pause:       200 * time.Millisecond, // for two clients of a user, below the limit of requests per minute
		SessionsEnd: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(load.End)
	rotations := 0
	for begun := time.Now(); rotations < 3 || len(f.injected) < len(faults) || time.Since(begun) < least; rotations++ {
		f.rotateUnderFire(rotations)
		if _, all := load.Violations(); all > 0 {
			break
		}
	}
	load.End()
	c.ready(t, c.sample())
	f.awaitRetirement()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	if err := load.Check(ctx); err != nil {
		t.Error(err)
	}
	t.Logf("seed %d: %d rotations; %s; %v", seed, rotations, load, f.injected)
	if kept, all := load.Violations(); all > 0 {
		t.Errorf("seed %d: %d violations:\n%s", seed, all, strings.Join(kept, "\n"))
	}
}

// rotateUnderFire runs one rotation, in the n-th way, and injects two faults.
func (f *fire) rotateUnderFire(n int) {
	f.t.Helper()
	kr := &v1alpha1.KeyRotation{
		ObjectMeta: metav1.ObjectMeta{Namespace: f.namespace, GenerateName: f.name + "-fire-"},
		Spec:       v1alpha1.KeyRotationSpec{SecureNotesRef: v1alpha1.LocalObjectReference{Name: f.name}},
	}
	switch n % 3 {
	case 1:
		kr.Spec.Strategy = v1alpha1.StrategyRewrap
	case 2:
		kr.Spec.Reason = v1alpha1.RotationCompromise
	}
	ctx := context.Background()
	if err := f.Create(ctx, kr); err != nil {
		f.t.Fatal(err)
	}
	for range 2 {
		time.Sleep(time.Duration(f.random.IntN(3000)) * time.Millisecond)
		f.next()
	}
	poll.Eventually(f.t, 6*time.Minute, "KeyRotation "+kr.Name+" to complete", func(ctx context.Context) error {
		if err := f.Get(ctx, client.ObjectKeyFromObject(kr), kr); err != nil {
			return err
		}
		if meta.IsStatusConditionTrue(kr.Status.Conditions, v1alpha1.ConditionFailed) {
			f.t.Fatalf("KeyRotation %s has failed: %s", kr.Name, describe(kr.Status.Conditions))
		}
		if !meta.IsStatusConditionTrue(kr.Status.Conditions, v1alpha1.ConditionComplete) {
			return errors.New(describe(kr.Status.Conditions))
		}
		return nil
	})
}

// awaitRetirement waits until the last old version is retired, and checks that no data is under it.
func (f *fire) awaitRetirement() {
	f.t.Helper()
	sn := f.sample()
	poll.Eventually(f.t, 5*time.Minute, "the retirement of every old version", func(ctx context.Context) error {
		if err := f.Get(ctx, client.ObjectKeyFromObject(sn), sn); err != nil {
			return err
		}
		if key := sn.Status.MasterKey; key == nil || key.MinDecryptionVersion != key.LatestVersion || len(key.PendingRetirements) > 0 {
			return fmt.Errorf("masterKey %+v", sn.Status.MasterKey)
		}
		return nil
	})
	db := f.database(f.t)
	latest := sn.Status.MasterKey.LatestVersion
	if stale := count(f.t, db, "SELECT count(*) FROM owner_keys WHERE kek_version < $1", latest); stale != 0 {
		f.t.Errorf("%d owner keys are below version %d", stale, latest)
	}
	secret, err := f.vault.Logical().Read(f.transitKey(f.t, f.namespace, f.name))
	if err != nil || secret == nil {
		f.t.Fatalf("read the master key: %v", err)
	}
	if least := fmt.Sprint(secret.Data["min_decryption_version"]); least != strconv.FormatInt(latest, 10) {
		f.t.Errorf("%s of Vault is %s, not %d", config.TransitKeyName(f.clusterID(f.t), f.namespace, f.name), least, latest)
	}
}
