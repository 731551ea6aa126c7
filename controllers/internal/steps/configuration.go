package steps

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/controllers/internal/stalecache"
)

// Configuration is the ConfigMap of a Job that does not exist yet. It is immutable, and its name
// has a hash of its content. The zero value is one that is not needed.
type Configuration struct {
	// Desired is nil if it is not needed, or if Invalid says why it cannot be built.
	Desired *corev1.ConfigMap
	Invalid error
	// Exists reports whether there is a ConfigMap of that name, and Foreign whether that is not the
	// desired one.
	Exists, Foreign bool
}

// ReadConfiguration compares the ConfigMap that was built, unless it is invalid, with the existing
// one. It reads past the cache, which has no data of ConfigMaps.
func ReadConfiguration(ctx context.Context, live client.Reader, owner metav1.Object, desired *corev1.ConfigMap, invalid error) (Configuration, error) {
	c := Configuration{Desired: desired, Invalid: invalid}
	if desired == nil {
		return c, nil
	}
	existing := &corev1.ConfigMap{}
	err := live.Get(ctx, client.ObjectKeyFromObject(desired), existing)
	if err != nil {
		return c, client.IgnoreNotFound(err)
	}
	c.Exists = true
	c.Foreign = !metav1.IsControlledBy(existing, owner) || !ptr.Deref(existing.Immutable, false) ||
		!equality.Semantic.DeepEqual(existing.Data, desired.Data) || len(existing.BinaryData) > 0
	return c, nil
}

// Check decides to fail if the configuration is invalid or foreign. of names what it is from.
func (c Configuration) Check(of string) (Decision, bool) {
	switch {
	case c.Invalid != nil:
		return Failing(config.ReasonConfigInvalid, "%s cannot be used: %s", of, c.Invalid)
	case c.Foreign:
		return Failing(v1alpha1.ReasonNameConflict, "ConfigMap %s exists and is not as the operator creates it: delete it", c.Desired.Name)
	default:
		return NotDue()
	}
}

// Missing reports whether the ConfigMap is to be created.
func (c Configuration) Missing() bool { return c.Desired != nil && !c.Exists }

// Create creates the ConfigMap.
func (c Configuration) Create(ctx context.Context, writer client.Writer) error {
	return UnlessExists("ConfigMap", c.Desired.Name, writer.Create(ctx, c.Desired))
}

// UnlessExists returns the error of a creation. If the object exists already, which was not
// observed, it is a [stalecache.Error].
func UnlessExists(kind, name string, err error) error {
	if apierrors.IsAlreadyExists(err) {
		return stalecache.New(kind, name, "it exists")
	}
	return err
}
