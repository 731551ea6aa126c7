//go:build integration

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/keyrotation"
	"github.com/securenotes/securenotes/controllers/internal/operand"
	"github.com/securenotes/securenotes/controllers/internal/rotations"
	"github.com/securenotes/securenotes/controllers/internal/vaultadmin"
)

// TestCacheMemory: what a user with the role edit may create in a namespace does not fill the
// operator's memory.
func TestCacheMemory(t *testing.T) {
	c, namespace := shared(t)
	t.Run("large ConfigMaps", func(t *testing.T) { testLargeConfigMaps(t, c, namespace) })
	t.Run("many rotations", func(t *testing.T) { testManyRotations(t, c, namespace) })
	t.Run("watched namespaces", func(t *testing.T) { testWatchedNamespaces(t, c, namespace) })
}

func testLargeConfigMaps(t *testing.T, c *cluster, namespace string) {
	const count, maxGrowth = 20, 8 << 20
	parent := &v1alpha1.SecureNotes{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "notes"}}
	before := heap()
	data := map[string]string{"data": strings.Repeat("x", 1<<20-1)}
	annotations := map[string]string{"example.com/large": strings.Repeat("x", 200<<10)}
	for i := range count {
		object := &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: fmt.Sprintf("large-%d", i), Labels: operand.Labels(parent, ""), Annotations: annotations},
			Data:       data,
		}
		if err := c.Create(t.Context(), object); err != nil {
			t.Fatal(err)
		}
	}
	await(t, "the ConfigMaps in the cache", func() string {
		list := &metav1.PartialObjectMetadataList{}
		list.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("ConfigMapList"))
		if err := c.manager.GetCache().List(context.Background(), list, client.InNamespace(namespace)); err != nil || len(list.Items) != count {
			return fmt.Sprint(len(list.Items), err)
		}
		return ""
	})
	growth := int64(heap()) - int64(before)
	t.Logf("%d ConfigMaps of 1 MiB: the heap grew by %.1f MiB", count, float64(growth)/(1<<20))
	if growth > maxGrowth {
		t.Errorf("the heap grew by %d bytes", growth)
	}
	if err := c.DeleteAllOf(t.Context(), &corev1.ConfigMap{}, client.InNamespace(namespace), client.MatchingLabels(operand.Labels(parent, ""))); err != nil {
		t.Fatal(err)
	}
}

// testWatchedNamespaces: with watchNamespaces the cache holds the same kinds, of these namespaces
// only, and no kind that is not listed.
func testWatchedNamespaces(t *testing.T, c *cluster, namespace string) {
	config := *c.config
	config.WatchNamespaces = []string{namespace}
	options := cacheOptions(&config)
	options.Scheme = c.Scheme()
	objects, err := cache.New(c.rest, options)
	if err != nil {
		t.Fatal(err)
	}
	if err := addInformers(t.Context(), objects); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { ended <- objects.Start(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	labels := operand.Labels(&v1alpha1.SecureNotes{ObjectMeta: metav1.ObjectMeta{Name: "watched"}}, "")
	for _, in := range []string{namespace, c.newNamespace(t)} {
		object := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: in, Name: "watched", Labels: labels}}
		if err := c.Create(t.Context(), object); err != nil {
			t.Fatal(err)
		}
	}
	await(t, "the ConfigMap of the watched namespace", func() string {
		return text(objects.Get(context.Background(), client.ObjectKey{Namespace: namespace, Name: "watched"}, metadataOf(corev1.SchemeGroupVersion.WithKind("ConfigMap"))))
	})
	list := &metav1.PartialObjectMetadataList{}
	list.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("ConfigMapList"))
	if err := objects.List(t.Context(), list, client.MatchingLabels(labels)); err != nil || len(list.Items) != 1 {
		t.Errorf("%d ConfigMaps, %v", len(list.Items), err)
	}
	for _, unlisted := range []client.ObjectList{&corev1.ConfigMapList{}, &corev1.SecretList{}} {
		err := objects.List(t.Context(), unlisted, client.InNamespace(namespace))
		if _, ok := errors.AsType[*cache.ErrResourceNotCached](err); !ok {
			t.Errorf("%T: got error %v, want that the kind is not cached", unlisted, err)
		}
	}
}

// heap returns the heap in use after a garbage collection.
func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

// testManyRotations: the cost of a reconciliation does not depend on the number of ended rotations.
func testManyRotations(t *testing.T, c *cluster, namespace string) {
	const count = 200
	sn := postgresNotes(namespace, "notes")
	sn.Spec.VaultConnection = "away"
	if err := c.Create(t.Context(), sn); err != nil {
		t.Fatal(err)
	}
	var wait sync.WaitGroup
	failed := make(chan error, count)
	for worker := range 8 {
		wait.Go(func() {
			for i := worker; i < count; i += 8 {
				failed <- c.endedRotation(t.Context(), namespace, fmt.Sprintf("ended-%d", i))
			}
		})
	}
	wait.Wait()
	close(failed)
	for err := range failed {
		if err != nil {
			t.Fatal(err)
		}
	}
	queued := rotationOf(sn, "queued")
	if err := c.Create(t.Context(), queued); err != nil {
		t.Fatal(err)
	}
	c.awaitState(t, queued, v1alpha1.ReasonQueued)
	await(t, "the rotations in the cache", func() string {
		list := &v1alpha1.KeyRotationList{}
		if err := c.manager.GetCache().List(context.Background(), list, client.InNamespace(namespace)); err != nil {
			return err.Error()
		}
		ended := 0
		for i := range list.Items {
			if rotations.Ended(&list.Items[i]) {
				ended++
			}
		}
		if ended != count || len(list.Items) != count+1 {
			return fmt.Sprintf("%d of %d have ended", ended, len(list.Items))
		}
		return ""
	})
	r := &keyrotation.Reconciler{
		Client: c.manager.GetClient(), Live: c.manager.GetAPIReader(), Recorder: events.NewFakeRecorder(100), Now: time.Now,
		Vault:        func(string) (keyrotation.Vault, bool) { return nil, false },
		SetupCommand: func(vaultadmin.Connection, *v1alpha1.SecureNotes) string { return "" },
	}
	for what, do := range map[string]func() error{
		"a reconciliation of another one": func() error {
			_, err := r.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKeyFromObject(queued)})
			return err
		},
		"the list for their SecureNotes": func() error {
			_, err := rotations.List(t.Context(), c.manager.GetClient(), namespace, "notes")
			return err
		},
	} {
		took, allocations := leastCost(t, do)
		t.Logf("%d rotations have ended: %s takes %s and %d allocations", count, what, took, allocations)
		if allocations > 2*count {
			t.Errorf("%s makes %d allocations: rotations that have ended are copied", what, allocations)
		}
	}
	if err := c.Delete(t.Context(), sn); err != nil {
		t.Fatal(err)
	}
}

// leastCost returns the least time and allocations of many tries, because the operator runs at the
// same time.
func leastCost(t *testing.T, do func() error) (took time.Duration, allocations uint64) {
	t.Helper()
	took, allocations = time.Hour, 1<<60
	var before, after runtime.MemStats
	for range 50 {
		runtime.ReadMemStats(&before)
		began := time.Now()
		err := do()
		took = min(took, time.Since(began))
		runtime.ReadMemStats(&after)
		if err != nil {
			t.Fatal(err)
		}
		allocations = min(allocations, after.Mallocs-before.Mallocs)
	}
	return took, allocations
}

// endedRotation creates a rotation that has ended.
func (c *cluster) endedRotation(ctx context.Context, namespace, name string) error {
	kr := rotationOf(postgresNotes(namespace, "notes"), name)
	if err := c.Create(ctx, kr); err != nil {
		return err
	}
	before := kr.DeepCopy()
	kr.Status.FromVersion, kr.Status.ToVersion = new(int64(1)), new(int64(2))
	for _, kind := range []string{v1alpha1.ConditionReencrypted, v1alpha1.ConditionVerified, v1alpha1.ConditionComplete} {
		meta.SetStatusCondition(&kr.Status.Conditions, metav1.Condition{
			Type: kind, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonComplete, Message: "rotated from version 1 to 2, everything is at version 2 or above",
		})
	}
	// Without the resourceVersion, because the operator may have written the status.
	return c.Status().Patch(ctx, kr, client.MergeFrom(before))
}

// hungObjects is more than all workers together process in a minute if each waits for Vault.
const hungObjects = 40

// TestHungVault: while many objects wait for a Vault that never answers, those of another Vault are
// reconciled. Each object reports what it waits for, and all can be deleted.
func TestHungVault(t *testing.T) {
	t.Parallel()
	c, namespace := apart(t, apartOptions{connections: map[string]string{"hung": "https://" + hungAddress(t)}, noOperator: true})
	beside := c.newApartNamespace(t)
	c.config.WatchNamespaces = append(c.config.WatchNamespaces, beside)
	c.runOperator(t, c.config, c.writes.wrap)
	for i := range hungObjects {
		sn := postgresNotes(namespace, fmt.Sprintf("notes-%d", i))
		sn.Spec.VaultConnection = "hung"
		if err := c.Create(t.Context(), sn); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	if err := c.Create(t.Context(), postgresNotes(beside, "notes")); err != nil {
		t.Fatal(err)
	}
	c.awaitCondition(t, beside, "notes", v1alpha1.ConditionVaultReady, metav1.ConditionTrue, v1alpha1.ReasonReady)
	took := time.Since(began).Round(time.Millisecond)
	t.Logf("beside %d objects of a hung Vault it took %s", hungObjects, took)
	if took > time.Minute {
		t.Errorf("objects of another Vault waited %s for the one that hangs", took)
	}

	var errs []error
	for i := range hungObjects {
		name := fmt.Sprintf("notes-%d", i)
		c.awaitCondition(t, namespace, name, v1alpha1.ConditionVaultReady, metav1.ConditionFalse, v1alpha1.ReasonVaultUnreachable)
		errs = append(errs, c.Delete(t.Context(), &v1alpha1.SecureNotes{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}))
	}
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// hungAddress returns an address that accepts connections and never answers.
func hungAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return listener.Addr().String() // the kernel accepts
}
