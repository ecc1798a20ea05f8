# SPDX-License-Identifier: MPL-2.0
"""What happens to zones, and in them, as time goes by: installing, one state after the other, the guest inside, and
vmadmd beside it."""
