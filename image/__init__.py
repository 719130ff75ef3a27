"""What makes the container image and says what is in it. No part of the wheel."""
