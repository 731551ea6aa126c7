package securenotes

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	certmanagerv1 "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	cmmeta "github.com/cert-manager/cert-manager/pkg/apis/meta/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/cause"
	"github.com/securenotes/securenotes/controllers/internal/jitter"
	"github.com/securenotes/securenotes/controllers/internal/operand"
)

// certificate has cert-manager issue the certificate, or leaves that to whoever keeps the Secret.
func (r *Reconciler) certificate(ctx context.Context, s *scope) error {
	installed, err := r.certManagerInstalled()
	if err != nil {
		return err
	}
	if installed {
		if err := r.WatchCertManager(ctx); err != nil {
			return fmt.Errorf("watch cert-manager: %w", err)
		}
	}
	wanted := s.sn.Spec.TLS.CertManager != nil
	switch {
	case !wanted && installed:
		return r.remove(ctx, s, operand.CertificateName(s.sn.Name), &certmanagerv1.Certificate{})
	case !wanted:
		return nil
	case !installed:
		if err := r.secretWithoutCertificate(ctx, s); err != nil {
			return err
		}
		s.certificateFinding = bad(v1alpha1.ReasonCertManagerMissing,
			"spec.tls.certManager needs cert-manager, which is not installed: install it, or use spec.tls.secretRef")
		s.wake(jitter.Longer(retryInterval))
		return nil
	}
	existing := &certmanagerv1.Certificate{}
	if err := r.secretOfCertificate(ctx, s); err != nil {
		return err
	}
	if err := r.namesOfCertificate(ctx, s); err != nil {
		return err
	}
	refused, kept, err := r.refuseHostnames(ctx, s)
	if err != nil {
		return err
	}
	refusals := s.refusals
	if err := r.apply(ctx, s, operand.Certificate(s.sn, s.env), existing); err != nil {
		return err
	}
	s.notAfter = existing.Status.NotAfter
	ready := certificateCondition(existing)
	// Until cert-manager has looked at this spec, it still says what it found for the last one.
	issued := ready != nil && ready.Status == cmmeta.ConditionTrue && ready.ObservedGeneration >= existing.Generation
	if recorded := recordedSecret(s.sn); recorded != "" && !issued {
		// The pods keep the Secret that they have mounted until another one is there.
		s.env.CertificateSecret, s.certificateSecret = recorded, ""
	}
	if refused.known() {
		s.certificateFinding = refused
		return nil
	}
	if s.refusals != refusals {
		return nil // the condition WorkloadReady tells why
	}
	if issued {
		issued := good(v1alpha1.ReasonReady, "the certificate is issued")
		if kept.known() {
			issued = kept
		}
		s.certificateFinding = s.fromIssuer(issued)
		return nil
	}
	if s.certificateFinding, err = r.issuer(ctx, s.sn); err != nil || s.certificateFinding.known() {
		s.wake(jitter.Longer(retryInterval))
		return err
	}
	s.wake(jitter.Longer(retryInterval)) // CertificateRequests are not watched
	asked := s.withoutCertificate()
	request, read := r.certificateRequest(ctx, existing)
	if !read {
		asked = s.now // it is not known that there is no request
	}
	s.certificateFinding = certificateFinding(cause.OfCertificate(existing, request, asked, s.now), ready)
	return nil
}

// certificateFinding says why a certificate is not issued, or that cert-manager is at work.
func certificateFinding(c cause.Cause, ready *certmanagerv1.CertificateCondition) finding {
	if c.Known() {
		return bad(c.Reason, c.String())
	}
	message := "cert-manager is issuing the certificate"
	if ready != nil && ready.Message != "" {
		message += ": " + cause.Words(ready.Message)
	}
	return bad(v1alpha1.ReasonIssuing, message)
}

// withoutCertificate is since when the object has waited for its certificate.
func (s *scope) withoutCertificate() time.Time {
	before := meta.FindStatusCondition(s.original.Status.Conditions, v1alpha1.ConditionCertificateReady)
	if before == nil || before.Status != metav1.ConditionFalse {
		return s.now
	}
	return before.LastTransitionTime.Time
}

// certificateRequest returns the request for the next revision of a certificate; nil if there is
// none, or it cannot be read: the certificate itself says less then.
func (r *Reconciler) certificateRequest(ctx context.Context, certificate *certmanagerv1.Certificate) (request *certmanagerv1.CertificateRequest, read bool) {
	request = &certmanagerv1.CertificateRequest{}
	err := r.Live.Get(ctx, client.ObjectKey{Namespace: certificate.Namespace, Name: cause.RequestName(certificate)}, request)
	if err != nil || !metav1.IsControlledBy(request, certificate) {
		return nil, client.IgnoreNotFound(err) == nil
	}
	return request, true
}

// namesOfCertificate records the names of the Certificate that exists, which it keeps.
func (r *Reconciler) namesOfCertificate(ctx context.Context, s *scope) error {
	existing := &certmanagerv1.Certificate{}
	err := r.Client.Get(ctx, client.ObjectKey{Namespace: s.sn.Namespace, Name: operand.CertificateName(s.sn.Name)}, existing)
	if err == nil && ours(existing, s.sn) {
		s.env.CertificateNames = existing.Spec.DNSNames
	}
	return client.IgnoreNotFound(err)
}

// ours reports whether a Certificate is of the SecureNotes. A restored one has no owner.
func ours(certificate *certmanagerv1.Certificate, sn *v1alpha1.SecureNotes) bool {
	return metav1.IsControlledBy(certificate, sn) ||
		certificate.Labels[operand.LabelManagedBy] == operand.ManagedBy && certificate.Labels[operand.LabelInstance] == sn.Name
}

// refuseHostnames leaves out of the certificate what it may not name. The findings say which names
// these are, and which ones are kept although a new Certificate would not get them.
func (r *Reconciler) refuseHostnames(ctx context.Context, s *scope) (refused, kept finding, err error) {
	var facts, keeps []string
	for _, host := range s.sn.Spec.Hostnames {
		why, keep, err := operand.RefuseHostname(s.sn, host, s.env.CertificateNames, func(namespace string) (bool, error) {
			err := r.Live.Get(ctx, client.ObjectKey{Name: namespace}, &corev1.Namespace{})
			return err == nil, client.IgnoreNotFound(err)
		})
		if apierrors.IsForbidden(err) {
			why, err = "may be a Service: the operator has no right to look whether there is such a namespace; upgrade its rights with its chart", nil
		}
		if err != nil {
			return finding{}, finding{}, fmt.Errorf("look for the namespace that hostname %s may name: %w", host, err)
		}
		switch {
		case why != "" && keep:
			keeps = append(keeps, host+" "+why)
		case why != "":
			s.env.RefusedHostnames = append(s.env.RefusedHostnames, host)
			facts = append(facts, host+" "+why)
		}
	}
	if len(keeps) > 0 {
		kept = good(v1alpha1.ReasonHostnameKept, "the certificate is issued, and keeps names that a new one would not get: "+strings.Join(keeps, "; ")+
			". Move clients to a name of three parts or more, and remove these from spec.hostnames")
	}
	if len(facts) > 0 {
		refused = bad(v1alpha1.ReasonHostnameRefused, "the certificate does not name these of spec.hostnames: "+strings.Join(facts, "; ")+
			". Remove them, or use a certificate of your own in spec.tls.secretRef")
	}
	return refused, kept, nil
}

// secretOfCertificate decides which Secret cert-manager writes. Earlier releases had it write
// NAME-tls, which may be somebody's own. A Certificate of theirs keeps it, because pods have
// mounted it; a new Certificate never gets it.
func (r *Reconciler) secretOfCertificate(ctx context.Context, s *scope) error {
	former := operand.FormerCertificateSecretName(s.sn.Name)
	recorded := recordedSecret(s.sn)
	if recorded != "" && recorded != former {
		s.env.CertificateSecret = recorded
		return nil
	}
	existing := &certmanagerv1.Certificate{}
	// Past the cache: a Certificate that it does not have yet must not get another Secret.
	err := r.Live.Get(ctx, client.ObjectKey{Namespace: s.sn.Namespace, Name: operand.CertificateName(s.sn.Name)}, existing)
	if client.IgnoreNotFound(err) != nil {
		return err
	}
	s.env.CertificateSecret = operand.CertificateSecretName(s.sn.Name)
	if err == nil && ours(existing, s.sn) && existing.Spec.SecretName == former {
		s.env.CertificateSecret = former
	}
	s.certificateSecret = s.env.CertificateSecret
	return nil
}

// secretWithoutCertificate has pods go on with the Secret that they have mounted, while
// cert-manager's kinds are not there and nothing can be written.
func (r *Reconciler) secretWithoutCertificate(ctx context.Context, s *scope) error {
	if s.env.CertificateSecret = recordedSecret(s.sn); s.env.CertificateSecret != "" {
		return nil
	}
	existing := &appsv1.Deployment{}
	err := r.Live.Get(ctx, client.ObjectKeyFromObject(s.sn), existing)
	if client.IgnoreNotFound(err) != nil {
		return err
	}
	former := operand.FormerCertificateSecretName(s.sn.Name)
	s.env.CertificateSecret = operand.CertificateSecretName(s.sn.Name)
	for _, volume := range existing.Spec.Template.Spec.Volumes {
		if volume.Secret != nil && volume.Secret.SecretName == former && metav1.IsControlledBy(existing, s.sn) {
			s.env.CertificateSecret = former
		}
	}
	return nil
}

// recordedSecret returns the Secret that was decided on, or an empty string.
func recordedSecret(sn *v1alpha1.SecureNotes) string {
	known := []string{operand.CertificateSecretName(sn.Name), operand.FormerCertificateSecretName(sn.Name)}
	if status := sn.Status.Certificate; status != nil && slices.Contains(known, status.SecretName) {
		return status.SecretName
	}
	return ""
}

func (r *Reconciler) certManagerInstalled() (bool, error) {
	_, err := r.Client.RESTMapper().RESTMapping(certmanagerv1.SchemeGroupVersion.WithKind(certmanagerv1.CertificateKind).GroupKind(), certmanagerv1.SchemeGroupVersion.Version)
	if meta.IsNoMatchError(err) {
		return false, nil
	}
	return err == nil, err
}

// issuer says what is wrong with the issuer; nothing when it is ready.
func (r *Reconciler) issuer(ctx context.Context, sn *v1alpha1.SecureNotes) (finding, error) {
	name, kind := sn.Spec.TLS.CertManager.IssuerRef.Name, operand.IssuerKind(sn)
	var issuer certmanagerv1.GenericIssuer = &certmanagerv1.Issuer{}
	key := client.ObjectKey{Namespace: sn.Namespace, Name: name}
	if kind == certmanagerv1.ClusterIssuerKind {
		issuer, key.Namespace = &certmanagerv1.ClusterIssuer{}, ""
	}
	err := r.Client.Get(ctx, key, issuer)
	if apierrors.IsNotFound(err) {
		where := ""
		if kind == certmanagerv1.IssuerKind {
			where = " in namespace " + sn.Namespace
		}
		return bad(v1alpha1.ReasonIssuerNotFound, fmt.Sprintf("%s %s does not exist%s: create it, or change spec.tls.certManager.issuerRef", kind, name, where)), nil
	}
	if err != nil {
		return finding{}, err
	}
	return issuerFinding(kind, name, sn.Namespace, issuer.GetStatus()), nil
}

// issuerFinding quotes what an issuer that is not ready says of itself; nothing when it is ready.
func issuerFinding(kind, name, namespace string, status *certmanagerv1.IssuerStatus) finding {
	i := slices.IndexFunc(status.Conditions, func(c certmanagerv1.IssuerCondition) bool { return c.Type == certmanagerv1.IssuerConditionReady })
	if i < 0 {
		return bad(v1alpha1.ReasonIssuerNotReady, fmt.Sprintf(
			"no controller has looked at %s %s yet: see whether cert-manager runs, and whether it supports this kind of issuer", kind, name))
	}
	ready := status.Conditions[i]
	if ready.Status == cmmeta.ConditionTrue {
		return finding{}
	}
	message, describe := fmt.Sprintf("%s %s is not ready", kind, name), fmt.Sprintf("kubectl describe %s %s", strings.ToLower(kind), name)
	if ready.Message != "" {
		message += ": " + cause.Words(ready.Message)
	}
	if kind == certmanagerv1.IssuerKind {
		describe += " -n " + namespace
	}
	return bad(v1alpha1.ReasonIssuerNotReady, message+": see `"+describe+"`")
}

func certificateCondition(certificate *certmanagerv1.Certificate) *certmanagerv1.CertificateCondition {
	for i := range certificate.Status.Conditions {
		if certificate.Status.Conditions[i].Type == certmanagerv1.CertificateConditionReady {
			return &certificate.Status.Conditions[i]
		}
	}
	return nil
}
