"""Migration of a Volume to another class or size: copy, prove, and put the new volume under the claim's old name.

`plan` decides (pure), `hands` does. docs/decisions/volume-migration.md says why the steps are as they are.
"""
