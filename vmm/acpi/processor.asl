/*
 * One vCPU, the namespace's side of its entry in the MADT: _UID says which.
 * Name and _UID are placeholders.
 */
DefinitionBlock ("", "SSDT", 2, "FOAL", "CPU", 1)
{
	Scope (\_SB)
	{
		Device (C000)
		{
			Name (_HID, "ACPI0007")
			Name (_UID, 0xFFFF)
		}
	}
}
