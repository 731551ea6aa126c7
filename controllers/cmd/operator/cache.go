package main

import (
	"context"
	"fmt"

	certmanagerv1 "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/operand"
	"github.com/securenotes/securenotes/controllers/internal/operatorconfig"
	"github.com/securenotes/securenotes/controllers/internal/slim"
)

// metadataKinds are the kinds of which the operator reads only the metadata. The API server sends
// only that.
var metadataKinds = []schema.GroupVersionKind{
	corev1.SchemeGroupVersion.WithKind("ConfigMap"),
	corev1.SchemeGroupVersion.WithKind("Service"),
	corev1.SchemeGroupVersion.WithKind("ServiceAccount"),
	policyv1.SchemeGroupVersion.WithKind("PodDisruptionBudget"),
	rbacv1.SchemeGroupVersion.WithKind("Role"),
	rbacv1.SchemeGroupVersion.WithKind("RoleBinding"),
}

func metadataOf(kind schema.GroupVersionKind) client.Object {
	object := &metav1.PartialObjectMetadata{}
	object.SetGroupVersionKind(kind)
	return object
}

// cacheOptions limits the cache to the operator's own objects, and to the fields that it reads. A
// kind that is not listed cannot be read through the cache, which would then hold all its objects.
func cacheOptions(configuration *operatorconfig.Config) cache.Options {
	managed := cache.ByObject{Label: labels.SelectorFromSet(labels.Set{operand.LabelManagedBy: operand.ManagedBy})}
	options := cache.Options{
		DefaultTransform:            slim.Transform,
		ByObject:                    map[client.Object]cache.ByObject{},
		ReaderFailOnMissingInformer: true,
	}
	for _, object := range []client.Object{
		&appsv1.Deployment{}, &corev1.Pod{}, &batchv1.Job{}, &corev1.PersistentVolumeClaim{}, &certmanagerv1.Certificate{},
	} {
		options.ByObject[object] = managed
	}
	for _, kind := range metadataKinds {
		options.ByObject[metadataOf(kind)] = managed
	}
	if len(configuration.WatchNamespaces) > 0 {
		options.DefaultNamespaces = map[string]cache.Config{}
		for _, namespace := range configuration.WatchNamespaces {
			options.DefaultNamespaces[namespace] = cache.Config{}
		}
	}
	return options
}

// addInformers adds every kind to the cache before a controller starts. The controllers start at
// the same time, and each reads kinds that only another one watches.
func addInformers(ctx context.Context, objects cache.Cache) error {
	kinds := []client.Object{
		&v1alpha1.SecureNotes{}, &v1alpha1.KeyRotation{}, &v1alpha1.NotesBackup{}, &v1alpha1.NotesRestore{}, &appsv1.Deployment{}, &corev1.Pod{}, &batchv1.Job{}, &corev1.PersistentVolumeClaim{},
	}
	for _, kind := range metadataKinds {
		kinds = append(kinds, metadataOf(kind))
	}
	for _, kind := range kinds {
		if _, err := objects.GetInformer(ctx, kind, cache.BlockUntilSynced(false)); err != nil {
			return fmt.Errorf("cache %T: %w", kind, err)
		}
	}
	return nil
}
