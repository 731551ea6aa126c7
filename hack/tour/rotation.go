package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-logr/logr"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/hack/poll"
)

// rotationTimeout bounds a rotation of a few notes on a busy machine.
const rotationTimeout = 5 * time.Minute

// rotator rotates the master key of one SecureNotes.
type rotator struct {
	client.Client
	namespace, name string
}

func newRotator(kubeconfig, namespace, name string) (*rotator, error) {
	log.SetLogger(logr.Discard()) // controller-runtime warns if no logger is set
	settings, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, err
	}
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		return nil, err
	}
	c, err := client.New(settings, client.Options{Scheme: scheme})
	return &rotator{Client: c, namespace: namespace, name: name}, err
}

// rotate creates a KeyRotation and waits until it ends.
func (r *rotator) rotate(ctx context.Context) (string, error) {
	kr := &v1alpha1.KeyRotation{
		ObjectMeta: metav1.ObjectMeta{Namespace: r.namespace, GenerateName: r.name + "-"},
		Spec:       v1alpha1.KeyRotationSpec{SecureNotesRef: v1alpha1.LocalObjectReference{Name: r.name}},
	}
	if err := r.Create(ctx, kr); err != nil {
		return "", err
	}
	say("KeyRotation %s created", kr.Name)
	last := ""
	if err := poll.Within(ctx, rotationTimeout, func(ctx context.Context) error {
		if err := r.Get(ctx, client.ObjectKeyFromObject(kr), kr); err != nil {
			return err
		}
		if line := progress(kr.Status); line != last {
			say("%s", line)
			last = line
		}
		if kr.Status.CompletionTime == nil {
			return errors.New("the rotation has not ended: " + last)
		}
		return nil
	}); err != nil {
		return "", err
	}
	if kr.Status.State != "Complete" {
		return "", fmt.Errorf("the rotation failed: %s", describe(kr.Status.Conditions))
	}
	return fmt.Sprintf("master key version %d to %d", *kr.Status.FromVersion, *kr.Status.ToVersion), nil
}

// progress returns a rotation's status in one line.
func progress(s v1alpha1.KeyRotationStatus) string {
	line := s.State
	if line == "" {
		line = "waiting for the operator"
	}
	if s.FromVersion != nil {
		line += fmt.Sprintf(", from version %d", *s.FromVersion)
	}
	if s.ToVersion != nil {
		line += fmt.Sprintf(" to %d", *s.ToVersion)
	}
	if p := s.Progress; p != nil {
		line += fmt.Sprintf(", %d of %d notes (%d %%)", p.NotesDone, p.NotesTotal, p.Percent)
	}
	return line
}

func describe(conditions []metav1.Condition) string {
	var all []string
	for _, c := range conditions {
		all = append(all, fmt.Sprintf("%s=%s %s: %s", c.Type, c.Status, c.Reason, c.Message))
	}
	return strings.Join(all, "; ")
}
