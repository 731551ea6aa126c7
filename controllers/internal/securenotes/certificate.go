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
	"github.com/securenotes/securenotes/controllers/internal/operand"
)

// certificate applies the Certificate that cert-manager issues. With spec.tls.secretRef it only
// deletes one that is no longer wanted.
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
		s.retry("cert-manager is not installed")
		return nil
	}
	return r.issue(ctx, s)
}

// issue applies the Certificate and records what cert-manager reports of it.
func (r *Reconciler) issue(ctx context.Context, s *scope) error {
	if err := r.secretOfCertificate(ctx, s); err != nil {
		return err
	}
	if err := r.readCertificateNames(ctx, s); err != nil {
		return err
	}
	refused, kept, err := r.refuseHostnames(ctx, s)
	if err != nil {
		return err
	}
	existing := &certmanagerv1.Certificate{}
	accepted, err := r.apply(ctx, s, operand.Certificate(s.sn, s.env), existing)
	if err != nil {
		return err
	}
	s.notAfter = existing.Status.NotAfter
	ready := certificateCondition(existing)
	// cert-manager's condition may still be that of an earlier spec.
	issued := ready != nil && ready.Status == cmmeta.ConditionTrue && ready.ObservedGeneration >= existing.Generation
	if recorded, ok := recordedSecret(s.sn); ok && !issued {
		// The pods keep the Secret that they have mounted until the new one exists.
		s.env.CertificateSecret, s.certificateSecret = recorded, ""
	}
	switch {
	case refused.known():
		s.certificateFinding = refused
		return nil
	case !accepted:
		return nil // the condition WorkloadReady says why
	case !issued:
		s.retry("CertificateRequests are not watched")
		s.certificateFinding, err = r.unissued(ctx, s, existing, ready)
		return err
	case kept.known():
		s.certificateFinding = kept
	default:
		s.certificateFinding = good(v1alpha1.ReasonReady, "the certificate is issued")
	}
	if s.notAfter != nil {
		s.requeueForExpiry(renewalOverdue(s))
	}
	return nil
}

// unissued says why a certificate is not issued.
func (r *Reconciler) unissued(ctx context.Context, s *scope, existing *certmanagerv1.Certificate, ready *certmanagerv1.CertificateCondition) (finding, error) {
	if f, err := r.issuer(ctx, s.sn); err != nil || f.known() {
		return f, err
	}
	since := s.withoutCertificate()
	request, read := r.certificateRequest(ctx, existing)
	if !read {
		since = s.now // there may be a request
	}
	return certificateFinding(cause.OfCertificate(existing, request, since, s.now), ready), nil
}

// certificateFinding says why a certificate is not issued, or that cert-manager is issuing it.
func certificateFinding(c cause.Cause, ready *certmanagerv1.CertificateCondition) finding {
	if c.Known() {
		return bad(c.Reason, c.String())
	}
	message := "cert-manager is issuing the certificate"
	if ready != nil && ready.Message != "" {
		message += ": " + cause.Sanitize(ready.Message)
	}
	return bad(v1alpha1.ReasonIssuing, message)
}

// withoutCertificate returns since when the object has waited for its certificate.
func (s *scope) withoutCertificate() time.Time {
	before := meta.FindStatusCondition(s.original.Status.Conditions, v1alpha1.ConditionCertificateReady)
	if before == nil || before.Status != metav1.ConditionFalse {
		return s.now
	}
	return before.LastTransitionTime.Time
}

// certificateRequest returns the request for the next revision of a certificate, or nil. read
// reports whether a nil request does not exist, as against one that could not be read.
func (r *Reconciler) certificateRequest(ctx context.Context, certificate *certmanagerv1.Certificate) (request *certmanagerv1.CertificateRequest, read bool) {
	request = &certmanagerv1.CertificateRequest{}
	err := r.Live.Get(ctx, client.ObjectKey{Namespace: certificate.Namespace, Name: cause.RequestName(certificate)}, request)
	if err != nil || !metav1.IsControlledBy(request, certificate) {
		return nil, client.IgnoreNotFound(err) == nil
	}
	return request, true
}

// readCertificateNames reads the names of an existing Certificate, which it keeps.
func (r *Reconciler) readCertificateNames(ctx context.Context, s *scope) error {
	existing := &certmanagerv1.Certificate{}
	err := r.Client.Get(ctx, client.ObjectKey{Namespace: s.sn.Namespace, Name: operand.CertificateName(s.sn.Name)}, existing)
	if err == nil && ownsCertificate(s.sn, existing) {
		s.env.CertificateNames = existing.Spec.DNSNames
	}
	return client.IgnoreNotFound(err)
}

// ownsCertificate reports whether a Certificate belongs to the SecureNotes. One that was restored
// from a backup has no owner, but the labels.
func ownsCertificate(sn *v1alpha1.SecureNotes, certificate *certmanagerv1.Certificate) bool {
	return metav1.IsControlledBy(certificate, sn) ||
		certificate.Labels[operand.LabelManagedBy] == operand.ManagedBy && certificate.Labels[operand.LabelInstance] == sn.Name
}

// refuseHostnames excludes from the certificate the names that it must not have. The findings list
// these, and the names that stay although a new Certificate would not get them.
func (r *Reconciler) refuseHostnames(ctx context.Context, s *scope) (refused, kept finding, err error) {
	var facts, keeps []string
	for _, host := range s.sn.Spec.Hostnames {
		why, keep, err := operand.RefuseHostname(s.sn, host, s.env.CertificateNames, func(namespace string) (bool, error) {
			err := r.Live.Get(ctx, client.ObjectKey{Name: namespace}, &corev1.Namespace{})
			return err == nil, client.IgnoreNotFound(err)
		})
		if apierrors.IsForbidden(err) {
			why, err = "may be a Service: the operator has no right to check whether there is such a namespace; upgrade its rights with its chart", nil
		}
		if err != nil {
			return finding{}, finding{}, fmt.Errorf("check whether hostname %s names a namespace: %w", host, err)
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
		kept = good(v1alpha1.ReasonHostnameKept, "the certificate is issued, with names that a new certificate would not get: "+strings.Join(keeps, "; ")+
			". Move clients to a name of three parts or more, and remove these from spec.hostnames")
	}
	if len(facts) > 0 {
		refused = bad(v1alpha1.ReasonHostnameRefused, "the certificate excludes these of spec.hostnames: "+strings.Join(facts, "; ")+
			". Remove them, or use a certificate of your own in spec.tls.secretRef")
	}
	return refused, kept, nil
}

// secretOfCertificate decides which Secret cert-manager writes. In earlier releases it was
// NAME-tls, which may be the user's own. A Certificate of an earlier release keeps it, because pods
// have mounted it; a new Certificate never gets it.
func (r *Reconciler) secretOfCertificate(ctx context.Context, s *scope) error {
	former := operand.FormerCertificateSecretName(s.sn.Name)
	if recorded, ok := recordedSecret(s.sn); ok && recorded != former {
		s.env.CertificateSecret = recorded
		return nil
	}
	existing := &certmanagerv1.Certificate{}
	// Past the cache: a Certificate that it does not hold yet must not get another Secret.
	err := r.Live.Get(ctx, client.ObjectKey{Namespace: s.sn.Namespace, Name: operand.CertificateName(s.sn.Name)}, existing)
	if client.IgnoreNotFound(err) != nil {
		return err
	}
	s.env.CertificateSecret = operand.CertificateSecretName(s.sn.Name)
	if err == nil && ownsCertificate(s.sn, existing) && existing.Spec.SecretName == former {
		s.env.CertificateSecret = former
	}
	s.certificateSecret = s.env.CertificateSecret
	return nil
}

// secretWithoutCertificate keeps the Secret that the pods have mounted, while cert-manager is not
// installed and no Certificate can be applied.
func (r *Reconciler) secretWithoutCertificate(ctx context.Context, s *scope) error {
	if recorded, ok := recordedSecret(s.sn); ok {
		s.env.CertificateSecret = recorded
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

// recordedSecret returns the Secret that the status records, and whether it records one.
func recordedSecret(sn *v1alpha1.SecureNotes) (string, bool) {
	known := []string{operand.CertificateSecretName(sn.Name), operand.FormerCertificateSecretName(sn.Name)}
	if status := sn.Status.Certificate; status != nil && slices.Contains(known, status.SecretName) {
		return status.SecretName, true
	}
	return "", false
}

func (r *Reconciler) certManagerInstalled() (bool, error) {
	_, err := r.Client.RESTMapper().RESTMapping(certmanagerv1.SchemeGroupVersion.WithKind(certmanagerv1.CertificateKind).GroupKind(), certmanagerv1.SchemeGroupVersion.Version)
	if meta.IsNoMatchError(err) {
		return false, nil
	}
	return err == nil, err
}

// issuer says why the issuer is not ready. The finding of a ready one is zero.
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

// issuerFinding quotes why an issuer is not ready. The finding of a ready one is zero.
func issuerFinding(kind, name, namespace string, status *certmanagerv1.IssuerStatus) finding {
	i := slices.IndexFunc(status.Conditions, func(c certmanagerv1.IssuerCondition) bool { return c.Type == certmanagerv1.IssuerConditionReady })
	if i < 0 {
		return bad(v1alpha1.ReasonIssuerNotReady, fmt.Sprintf(
			"no controller has processed %s %s yet: check whether cert-manager runs, and whether it supports this kind of issuer", kind, name))
	}
	ready := status.Conditions[i]
	if ready.Status == cmmeta.ConditionTrue {
		return finding{}
	}
	message, describe := fmt.Sprintf("%s %s is not ready", kind, name), fmt.Sprintf("kubectl describe %s %s", strings.ToLower(kind), name)
	if ready.Message != "" {
		message += ": " + cause.Sanitize(ready.Message)
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
