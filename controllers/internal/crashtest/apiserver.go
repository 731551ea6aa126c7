package crashtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	clienttesting "k8s.io/client-go/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/backups"
	"github.com/securenotes/securenotes/controllers/internal/restores"
)

// Scheme returns the kinds that the tests of the reconcilers use. It is built once.
var Scheme = sync.OnceValues(func() (*runtime.Scheme, error) {
	s := runtime.NewScheme()
	return s, errors.Join(corev1.AddToScheme(s), appsv1.AddToScheme(s), batchv1.AddToScheme(s), v1alpha1.AddToScheme(s))
})

// APIServer is controller-runtime's fake client with two differences. It can be forked. It keeps no
// managed fields, and converts little JSON for reads and for writes of a status, of which a crash
// test does thousands.
type APIServer struct {
	fakeClient
	objects normalized
	scheme  *runtime.Scheme
	indexes map[string]client.IndexerFunc
}

type fakeClient interface{ client.WithWatch }

// NewAPIServer returns an API server with the given objects, the given indexes of KeyRotations, and
// those of NotesBackups and NotesRestores.
func NewAPIServer(t *testing.T, indexes map[string]client.IndexerFunc, objects ...client.Object) *APIServer {
	t.Helper()
	scheme, err := Scheme()
	if err != nil {
		t.Fatal(err)
	}
	return newAPIServer(scheme, indexes, newTracker(scheme), objects...)
}

func newTracker(scheme *runtime.Scheme) clienttesting.ObjectTracker {
	return clienttesting.NewObjectTracker(scheme, serializer.NewCodecFactory(scheme).UniversalDecoder())
}

func newAPIServer(scheme *runtime.Scheme, indexes map[string]client.IndexerFunc, tracker clienttesting.ObjectTracker, objects ...client.Object) *APIServer {
	s := &APIServer{objects: normalized{tracker}, scheme: scheme, indexes: indexes}
	builder := fake.NewClientBuilder().WithScheme(scheme).WithObjectTracker(s.objects).WithObjects(objects...).
		WithStatusSubresource(&v1alpha1.SecureNotes{}, &v1alpha1.KeyRotation{}, &v1alpha1.NotesBackup{}, &v1alpha1.NotesRestore{}, &batchv1.Job{})
	for name, index := range indexes {
		builder = builder.WithIndex(&v1alpha1.KeyRotation{}, name, index)
	}
	for name, index := range backups.Indexes {
		builder = builder.WithIndex(&v1alpha1.NotesBackup{}, name, index)
	}
	for name, index := range restores.Indexes {
		builder = builder.WithIndex(&v1alpha1.NotesRestore{}, name, index)
	}
	s.fakeClient = builder.Build()
	return s
}

// Fork returns another API server with the same objects, resource versions included.
func (s *APIServer) Fork(t *testing.T) *APIServer {
	t.Helper()
	tracker := newTracker(s.scheme)
	known := s.scheme.AllKnownTypes()
	for kind, goType := range known {
		_, listed := known[kind.GroupVersion().WithKind(kind.Kind+"List")]
		if !listed || !reflect.PointerTo(goType).Implements(reflect.TypeFor[client.Object]()) {
			continue
		}
		list, err := s.objects.List(resource(kind), kind, metav1.NamespaceAll)
		if err == nil {
			err = tracker.Add(list)
		}
		if err != nil {
			t.Fatalf("copy every %s: %v", kind.Kind, err)
		}
	}
	return newAPIServer(s.scheme, s.indexes, tracker)
}

func resource(kind schema.GroupVersionKind) schema.GroupVersionResource {
	plural, _ := meta.UnsafeGuessKindToResource(kind)
	return plural
}

// Get implements client.Reader.
func (s *APIServer) Get(ctx context.Context, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
	stored, err := s.stored(key, o)
	if err != nil {
		return err
	}
	if reflect.TypeOf(stored) != reflect.TypeOf(o) {
		return s.fakeClient.Get(ctx, key, o, opts...) // partial metadata
	}
	set(o, stored)
	return nil
}

// stored returns a copy of the object with this key and the kind of o.
func (s *APIServer) stored(key client.ObjectKey, o client.Object) (client.Object, error) {
	kind, err := apiutil.GVKForObject(o, s.scheme)
	if err != nil {
		return nil, err
	}
	stored, err := s.objects.Get(resource(kind), key.Namespace, key.Name)
	if err != nil {
		return nil, err
	}
	object, ok := stored.(client.Object)
	if !ok {
		return nil, fmt.Errorf("%s %s is a %T, which has no metadata", kind.Kind, key, stored)
	}
	return object, nil
}

// set copies the value of another object of the same type into o.
func set(o, value client.Object) {
	reflect.ValueOf(o).Elem().Set(reflect.ValueOf(value).Elem())
	o.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{})
}

// List implements client.Reader.
func (s *APIServer) List(_ context.Context, list client.ObjectList, opts ...client.ListOption) error {
	kind, err := apiutil.GVKForObject(list, s.scheme)
	if err != nil {
		return err
	}
	kind.Kind = strings.TrimSuffix(kind.Kind, "List")
	options := (&client.ListOptions{}).ApplyOptions(opts)
	stored, err := s.objects.List(resource(kind), kind, options.Namespace)
	if err != nil {
		return err
	}
	items, err := meta.ExtractList(stored)
	if err != nil {
		return err
	}
	var selected []runtime.Object
	for _, item := range items {
		ok, err := s.selects(options, item)
		if err != nil {
			return err
		}
		if ok {
			item.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{})
			selected = append(selected, item)
		}
	}
	return meta.SetList(list, selected)
}

// selects reports whether an object matches the label selector and the field selector.
func (s *APIServer) selects(options *client.ListOptions, item runtime.Object) (bool, error) {
	object, ok := item.(client.Object)
	if !ok {
		return false, fmt.Errorf("a %T has no metadata", item)
	}
	if options.LabelSelector != nil && !options.LabelSelector.Matches(labels.Set(object.GetLabels())) {
		return false, nil
	}
	if options.FieldSelector == nil {
		return true, nil
	}
	for _, field := range options.FieldSelector.Requirements() {
		var indexes map[string]client.IndexerFunc
		switch object.(type) {
		case *v1alpha1.KeyRotation:
			indexes = s.indexes
		case *v1alpha1.NotesBackup:
			indexes = backups.Indexes
		case *v1alpha1.NotesRestore:
			indexes = restores.Indexes
		}
		index := indexes[field.Field]
		if index == nil {
			return false, fmt.Errorf("%T has no index %s, only %v", object, field.Field, slices.Sorted(maps.Keys(indexes)))
		}
		if !slices.Contains(index(object), field.Value) {
			return false, nil
		}
	}
	return true, nil
}

// Status implements client.StatusClient.
func (s *APIServer) Status() client.SubResourceWriter { return s.SubResource("status") }

// SubResource implements client.SubResourceClientConstructor.
func (s *APIServer) SubResource(name string) client.SubResourceClient {
	if name == "status" {
		return statusClient{s.fakeClient.SubResource(name), s}
	}
	return s.fakeClient.SubResource(name)
}

// statusClient writes only the status of an object.
type statusClient struct {
	client.SubResourceClient
	server *APIServer
}

// Update implements client.SubResourceWriter.
func (c statusClient) Update(_ context.Context, o client.Object, _ ...client.SubResourceUpdateOption) error {
	stored, err := c.server.stored(client.ObjectKeyFromObject(o), o)
	if err != nil {
		return err
	}
	return c.server.writeStatus(o, o, stored)
}

// Patch implements client.SubResourceWriter.
func (c statusClient) Patch(ctx context.Context, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
	if p.Type() != types.MergePatchType {
		return c.SubResourceClient.Patch(ctx, o, p, opts...)
	}
	patch, err := p.Data(o)
	if err != nil {
		return err
	}
	stored, err := c.server.stored(client.ObjectKeyFromObject(o), o)
	if err != nil {
		return err
	}
	before, err := json.Marshal(stored)
	if err != nil {
		return err
	}
	after, err := jsonpatch.MergePatch(before, patch)
	if err != nil {
		return err
	}
	patched := blank(stored)
	if err := json.Unmarshal(after, patched); err != nil {
		return err
	}
	return c.server.writeStatus(o, patched, stored)
}

// writeStatus stores the status of changed, and sets o to the stored object.
func (s *APIServer) writeStatus(o, changed, stored client.Object) error {
	kind, err := apiutil.GVKForObject(stored, s.scheme)
	if err != nil {
		return err
	}
	if changed.GetResourceVersion() != stored.GetResourceVersion() {
		return apierrors.NewConflict(resource(kind).GroupResource(), o.GetName(), errors.New("object was modified"))
	}
	version, err := strconv.ParseUint(stored.GetResourceVersion(), 10, 64)
	if err != nil {
		return err
	}
	stored.SetResourceVersion(strconv.FormatUint(version+1, 10))
	status := reflect.ValueOf(stored).Elem().FieldByName("Status")
	if !status.IsValid() {
		return apierrors.NewNotFound(resource(kind).GroupResource(), o.GetName())
	}
	status.Set(reflect.ValueOf(changed).Elem().FieldByName("Status"))
	if err := s.objects.Update(resource(kind), stored, stored.GetNamespace()); err != nil {
		return err
	}
	now, err := s.stored(client.ObjectKeyFromObject(stored), stored)
	if err != nil {
		return err
	}
	set(o, now)
	return nil
}

// normalized stores an object as its JSON represents it, as an API server does.
type normalized struct{ clienttesting.ObjectTracker }

// Add implements clienttesting.ObjectTracker.
func (n normalized) Add(o runtime.Object) error {
	o, err := normalize(o)
	if err != nil {
		return err
	}
	return n.ObjectTracker.Add(o)
}

// Create implements clienttesting.ObjectTracker.
func (n normalized) Create(r schema.GroupVersionResource, o runtime.Object, namespace string, opts ...metav1.CreateOptions) error {
	o, err := normalize(o)
	if err != nil {
		return err
	}
	return n.ObjectTracker.Create(r, o, namespace, opts...)
}

// Update implements clienttesting.ObjectTracker.
func (n normalized) Update(r schema.GroupVersionResource, o runtime.Object, namespace string, opts ...metav1.UpdateOptions) error {
	o, err := normalize(o)
	if err != nil {
		return err
	}
	return n.ObjectTracker.Update(r, o, namespace, opts...)
}

func normalize(o runtime.Object) (runtime.Object, error) {
	raw, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	normal := blank(o)
	return normal, json.Unmarshal(raw, normal)
}

// blank returns a new object of the type of o.
func blank[T runtime.Object](o T) T {
	return reflect.New(reflect.TypeOf(o).Elem()).Interface().(T)
}
