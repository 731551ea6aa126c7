package operand

import (
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/securenotes/securenotes/api/v1alpha1"
)

// ServiceAccounts returns those of the API and of rotation Jobs. Vault tells them apart by the
// suffixes of their names.
func ServiceAccounts(sn *v1alpha1.SecureNotes) []*corev1.ServiceAccount {
	return []*corev1.ServiceAccount{
		{ObjectMeta: meta(sn, APIServiceAccount(sn.Name), ComponentAPI), AutomountServiceAccountToken: new(false)},
		{ObjectMeta: meta(sn, RotationServiceAccount(sn.Name), ComponentRotation), AutomountServiceAccountToken: new(false)},
	}
}

// BackupServiceAccounts returns those of backup Jobs, without and with an escrow file, and of
// drills. There are none while spec.backup is unset.
func BackupServiceAccounts(sn *v1alpha1.SecureNotes) []*corev1.ServiceAccount {
	if sn.Spec.Backup == nil {
		return nil
	}
	return []*corev1.ServiceAccount{
		{ObjectMeta: meta(sn, BackupServiceAccount(sn.Name), ComponentBackup), AutomountServiceAccountToken: new(false)},
		{ObjectMeta: meta(sn, BackupEscrowServiceAccount(sn.Name), ComponentBackup), AutomountServiceAccountToken: new(false)},
		{ObjectMeta: meta(sn, DrillServiceAccount(sn.Name), ComponentDrill), AutomountServiceAccountToken: new(false)},
	}
}

// ProgressConfigMap returns the ConfigMap that rotation Jobs report to. They own its data, and the
// operator owns only its existence.
func ProgressConfigMap(sn *v1alpha1.SecureNotes) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: meta(sn, ProgressName(sn.Name), ComponentRotation)}
}

// RotationRole returns a Role that lets rotation Jobs write their progress, and nothing else.
func RotationRole(sn *v1alpha1.SecureNotes) *rbacv1.Role {
	return &rbacv1.Role{
		ObjectMeta: meta(sn, RotationServiceAccount(sn.Name), ComponentRotation),
		Rules: []rbacv1.PolicyRule{{
			APIGroups: []string{""}, Resources: []string{"configmaps"},
			ResourceNames: []string{ProgressName(sn.Name)}, Verbs: []string{"get", "patch"},
		}},
	}
}

// RotationRoleBinding binds RotationRole to rotation Jobs.
func RotationRoleBinding(sn *v1alpha1.SecureNotes) *rbacv1.RoleBinding {
	name := RotationServiceAccount(sn.Name)
	return &rbacv1.RoleBinding{
		ObjectMeta: meta(sn, name, ComponentRotation),
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: name},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Name: name, Namespace: sn.Namespace}},
	}
}
